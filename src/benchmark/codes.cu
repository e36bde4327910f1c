// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp8.h>

#include <algorithm>
#include <string>

#include "benchmark/codes.h"
#include "benchmark/device.h"
#include "benchmark/element.cuh"

namespace rtlynx::benchmark {
namespace {

constexpr int kThreads = 256;
constexpr int kMostVectors = 8;  // that a thread holds of a row
constexpr std::int64_t kMostColumns = std::int64_t{kThreads} * kMostVectors * kVectorElements;
constexpr float kLargestCode = 448.0f;

__device__ std::uint8_t code_of(float value) {
  return static_cast<std::uint8_t>(__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3));
}

template <typename T>
__device__ uint2 codes_of(const Vector8<T>& vector, float factor) {
  std::uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) {
    words[i / 4] |= static_cast<std::uint32_t>(code_of(widen(vector.values[i]) * factor))
                    << (i % 4 * 8);
  }
  return {words[0], words[1]};
}

/// A CTA for a row, which stays in its registers.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const Vector8<T>* matrix, int vectors, uint2* codes, float* scale) {
  __shared__ unsigned of_warp[kThreads / 32];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * vectors;
  Vector8<T> own[kMostVectors];
  float largest = 0.0f;
#pragma unroll
  for (int j = 0; j < kMostVectors; ++j) {
    const int i = j * kThreads + static_cast<int>(threadIdx.x);
    if (i >= vectors) break;
    own[j] = matrix[first + i];
#pragma unroll
    for (const T& value : own[j].values) largest = fmaxf(largest, fabsf(widen(value)));
  }
  unsigned bits = __reduce_max_sync(0xffffffffu, __float_as_uint(largest));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = bits;
  __syncthreads();
  for (const unsigned other : of_warp) bits = max(bits, other);
  const float unit = bits == 0 ? 1.0f : __uint_as_float(bits) / kLargestCode;
  if (threadIdx.x == 0) scale[blockIdx.x] = unit;
#pragma unroll
  for (int j = 0; j < kMostVectors; ++j) {
    const int i = j * kThreads + static_cast<int>(threadIdx.x);
    if (i >= vectors) break;
    codes[first + i] = codes_of(own[j], 1.0f / unit);
  }
}

template <typename T>
__global__ void codes_kernel(const Vector8<T>* matrix, std::int64_t vectors, float factor,
                             uint2* codes) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < vectors) codes[i] = codes_of(matrix[i], factor);
}

template <typename T>
__global__ void values_kernel(const std::uint8_t* codes, std::int64_t count, T* values) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const __half value{__nv_cvt_fp8_to_halfraw(codes[i], __NV_E4M3)};
  values[i] = narrow<T>(__half2float(value));
}

unsigned blocks_for(std::int64_t count) { return static_cast<unsigned>(ceil_div(count, kThreads)); }

}  // namespace

void quantize_rows(const Rows& matrix, std::uint8_t* codes, float* scale, cudaStream_t stream) {
  require(matrix.columns <= kMostColumns, "quantize_rows",
          "at most " + std::to_string(kMostColumns) + " columns", std::to_string(matrix.columns));
  with_device_type(matrix.dtype, [&](auto element) {
    using T = decltype(element);
    quantize_kernel<T><<<static_cast<unsigned>(matrix.rows), kThreads, 0, stream>>>(
        static_cast<const Vector8<T>*>(matrix.data),
        static_cast<int>(matrix.columns / kVectorElements), reinterpret_cast<uint2*>(codes), scale);
  });
  check_cuda(cudaGetLastError(), "quantize_rows");
}

void to_codes(const Rows& matrix, float factor, std::uint8_t* codes, cudaStream_t stream) {
  const std::int64_t vectors = matrix.rows * matrix.columns / kVectorElements;
  with_device_type(matrix.dtype, [&](auto element) {
    using T = decltype(element);
    codes_kernel<T><<<blocks_for(vectors), kThreads, 0, stream>>>(
        static_cast<const Vector8<T>*>(matrix.data), vectors, factor,
        reinterpret_cast<uint2*>(codes));
  });
  check_cuda(cudaGetLastError(), "to_codes");
}

void from_codes(const std::uint8_t* codes, std::int64_t count, DType dtype, void* values,
                cudaStream_t stream) {
  with_device_type(dtype, [&](auto element) {
    using T = decltype(element);
    values_kernel<T>
        <<<blocks_for(count), kThreads, 0, stream>>>(codes, count, static_cast<T*>(values));
  });
  check_cuda(cudaGetLastError(), "from_codes");
}

}  // namespace rtlynx::benchmark
