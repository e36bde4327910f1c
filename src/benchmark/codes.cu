// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp8.h>

#include "benchmark/codes.h"
#include "benchmark/device.h"
#include "benchmark/element.cuh"

namespace rtlynx::benchmark {
namespace {

constexpr int kThreads = 256;

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
