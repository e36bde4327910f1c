// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/vector.cuh"
#include "kernels/pack/code_factors.h"
#include "kernels/pack/producer.cuh"

/// Bounds of tokens, in code_factors() of rtlynx/pack24.h. Magnitudes are compared as bits, where
/// a NaN is the largest of all.
namespace rtlynx::pack {
namespace {

using device::kVectorElements;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr float kLargestCode = 448.0f, kMostFactor = 0x1p126f;

__device__ unsigned magnitude(float value) { return __float_as_uint(value) & 0x7fffffffu; }

template <typename Element>
__device__ unsigned largest_of(const uint4& bits) {
  float values[kVectorElements];
  device::widen<Element>(bits, values);
  unsigned largest = 0;
#pragma unroll
  for (const float value : values) largest = max(largest, magnitude(value));
  return largest;
}

__device__ float factor_of(float limit) {
  if (limit == 0.0f) return 1.0f;
  const float factor = __fdiv_rn(kLargestCode, limit);
  if (isnan(factor)) return factor;
  if (factor > kMostFactor) return kMostFactor;
  return __uint_as_float(__float_as_uint(factor) & 0x7f800000u);  // its power of two
}

/// Eight channels of z, in the element type.
template <typename Element>
__device__ uint4 produced(const Params& params, std::int64_t token, int vector) {
  const int channel = vector * kVectorElements;
  const bool in_x = channel < params.tail_start;
  const auto* const row =
      in_x ? static_cast<const std::uint16_t*>(params.x) + token * params.x_stride
           : static_cast<const std::uint16_t*>(params.tail) + token * params.tail_stride;
  const uint4 x =
      device::load_vector(row, vector - (in_x ? 0 : params.tail_start / kVectorElements));
  if (params.producer == Producer::none) return x;
  float values[kVectorElements];
  device::widen<Element>(x, values);
  if (params.producer == Producer::gelu) {
#pragma unroll
    for (float& value : values) value = device::gelu_tanh(value);
  } else {
    float up[kVectorElements];
    device::widen<Element>(
        device::load_vector(static_cast<const std::uint16_t*>(params.up) + token * params.up_stride,
                            vector),
        up);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) values[i] = device::silu(values[i]) * up[i];
  }
  return device::narrow<Element>(values);
}

/// A warp for a token.
template <typename Element>
__global__ void __launch_bounds__(kThreads)
    token_factors_kernel(const __grid_constant__ FactorParams all) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const Params& params = all.input;
  const int token = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (token >= params.tokens) return;
  unsigned largest = all.limit == nullptr ? 0 : magnitude(all.limit[token]);
  if (all.tail_limit != nullptr) largest = max(largest, magnitude(all.tail_limit[token]));
  for (int i = all.first_read + static_cast<int>(threadIdx.x) % 32; i < all.end_read; i += 32) {
    largest = max(largest, largest_of<Element>(produced<Element>(params, token, i)));
  }
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (threadIdx.x % 32 == 0) {
    all.factors[token] = factor_of(__uint_as_float(largest) * all.spread * all.gain);
  }
}

/// The largest |weight (1 + scale)| and |shift| of eight channels.
template <typename Element>
__device__ uint2 largest_modulation(const Params& params, std::int64_t image, int vector) {
  const auto load = [&](const void* matrix, std::int64_t stride) {
    if (matrix == nullptr) return uint4{};
    return device::load_vector(static_cast<const std::uint16_t*>(matrix) + image * stride, vector);
  };
  const uint4 weight = load(params.weight, 0);
  const uint4 scale = load(params.modulation_scale, params.scale_stride);
  const uint4 shift = load(params.modulation_shift, params.shift_stride);
  const auto of_pair = [&](std::uint32_t w, std::uint32_t s) {
    const float2 multiplier = modulation_of<Element>(params, w, s, 0).multiplier;
    return max(magnitude(multiplier.x), magnitude(multiplier.y));
  };
  return {max(max(of_pair(weight.x, scale.x), of_pair(weight.y, scale.y)),
              max(of_pair(weight.z, scale.z), of_pair(weight.w, scale.w))),
          largest_of<Element>(shift)};
}

/// A CTA for the tokens of an image, which have one modulation.
template <typename Element>
__global__ void __launch_bounds__(kThreads)
    norm_factors_kernel(const __grid_constant__ FactorParams all) {
  __shared__ uint2 of_warp[kWarps];
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const Params& params = all.input;
  uint2 largest{};
  for (int i = threadIdx.x; i < params.channels / kVectorElements; i += kThreads) {
    const uint2 own = largest_modulation<Element>(params, blockIdx.x, i);
    largest = {max(largest.x, own.x), max(largest.y, own.y)};
  }
  largest = {__reduce_max_sync(0xffffffffu, largest.x), __reduce_max_sync(0xffffffffu, largest.y)};
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  for (const uint2& own : of_warp) {
    largest = {max(largest.x, own.x), max(largest.y, own.y)};
  }
  const float scaled = sqrtf(static_cast<float>(params.channels)) * __uint_as_float(largest.x);
  const float shift = __uint_as_float(largest.y) * all.spread;
  const float factor = factor_of((scaled + shift) * all.gain);
  const unsigned first = blockIdx.x * params.image_tokens;
  for (unsigned i = threadIdx.x; i < params.image_tokens; i += kThreads) {
    if (first + i < static_cast<unsigned>(params.tokens)) all.factors[first + i] = factor;
  }
}

/// Where all limits are given: a thread for a token.
__global__ void __launch_bounds__(kThreads)
    limit_factors_kernel(const __grid_constant__ FactorParams all) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const int token = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (token >= all.input.tokens) return;
  unsigned largest = magnitude(all.limit[token]);
  if (all.tail_limit != nullptr) largest = max(largest, magnitude(all.tail_limit[token]));
  all.factors[token] = factor_of(__uint_as_float(largest) * all.spread * all.gain);
}

template <typename Element>
cudaError_t launch(const FactorParams& params, int compute_capability, cudaStream_t stream) {
  const auto tokens = static_cast<unsigned>(params.input.tokens);
  if (params.input.producer == Producer::norm) {
    const unsigned images = (tokens + params.input.image_tokens - 1) / params.input.image_tokens;
    return device::launch_early(norm_factors_kernel<Element>, images, kThreads, params,
                                compute_capability, stream);
  }
  if (params.first_read >= params.end_read) {
    return device::launch_early(limit_factors_kernel, (tokens + kThreads - 1) / kThreads, kThreads,
                                params, compute_capability, stream);
  }
  return device::launch_early(token_factors_kernel<Element>, (tokens + kWarps - 1) / kWarps,
                              kThreads, params, compute_capability, stream);
}

}  // namespace

cudaError_t launch_code_factors(DType dtype, const FactorParams& params, int compute_capability,
                                cudaStream_t stream) {
  return dtype == DType::bf16 ? launch<Bf16>(params, compute_capability, stream)
                              : launch<F16>(params, compute_capability, stream);
}

}  // namespace rtlynx::pack
