// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp8.h>

#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/vector.cuh"
#include "kernels/rows/params.h"
#include "rtlynx/gpu/rows.h"

/// One CTA for a token, whose row stays in registers between its largest and its codes.
namespace rtlynx::rows {
namespace {

using device::kVectorElements;

constexpr int kThreads = 256;

__device__ std::uint32_t to_codes(const float* four, float factor) {
  std::uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto code = __nv_cvt_float_to_fp8(four[i] * factor, __NV_SATFINITE, __NV_E4M3);
    word |= static_cast<std::uint32_t>(code) << (8 * i);
  }
  return word;
}

/// What a 1 of a row's codes stands for (rtlynx/rows.h).
__device__ float code_unit(float largest) {
  constexpr float kLargestCode = 448.0f, kSmallestNormal = 0x1p-126f;
  return largest == 0.0f ? 1.0f : fmaxf(largest / kLargestCode, kSmallestNormal);
}

/// The largest of all threads' values; as bits magnitudes are in order.
__device__ float largest_of_cta(float own) {
  __shared__ unsigned of_warp[kThreads / 32];
  unsigned bits = __float_as_uint(own);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, lanes));
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = bits;
  __syncthreads();
  for (const unsigned other : of_warp) bits = max(bits, other);
  return __uint_as_float(bits);
}

/// kVectors: at least as many as a thread holds of a row.
template <typename Element, int kVectors>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const __grid_constant__ QuantizeParams params) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const std::int64_t token = blockIdx.x;
  const auto* const x = static_cast<const std::uint16_t*>(params.x) + token * params.x_stride;
  auto* const codes = reinterpret_cast<uint2*>(static_cast<std::uint8_t*>(params.codes) +
                                               token * params.codes_stride);
  const int vectors = params.columns / kVectorElements;
  uint4 row[kVectors];
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    if (at >= vectors) break;
    row[i] = device::load_vector(x, at);
    float values[kVectorElements];
    device::widen<Element>(row[i], values);
#pragma unroll
    for (const float value : values) largest = fmaxf(largest, fabsf(value));
  }
  const float unit = code_unit(largest_of_cta(largest));
  if (threadIdx.x == 0) params.unit[token] = unit;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    if (at >= vectors) break;
    float values[kVectorElements];
    device::widen<Element>(row[i], values);
    codes[at] = {to_codes(values, 1.0f / unit), to_codes(values + 4, 1.0f / unit)};
  }
}

template <typename Element>
cudaError_t launch_element(const QuantizeParams& params, const Launch& launch) {
  constexpr int kFew = 4, kMost = 16;
  static_assert(kMost * kThreads * kVectorElements == gpu::kMaxRowColumns);
  const bool few = params.columns <= kFew * kThreads * kVectorElements;
  return device::launch_early(
      few ? quantize_kernel<Element, kFew> : quantize_kernel<Element, kMost>,
      dim3(static_cast<unsigned>(params.tokens)), kThreads, params, launch.compute_capability,
      launch.stream);
}

}  // namespace

cudaError_t launch_quantize(DType dtype, const QuantizeParams& params, const Launch& launch) {
  return dtype == DType::bf16 ? launch_element<Bf16>(params, launch)
                              : launch_element<F16>(params, launch);
}

}  // namespace rtlynx::rows
