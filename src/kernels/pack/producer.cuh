// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/math.cuh"
#include "kernels/pack/params.h"
#include "kernels/pack/select24.cuh"

/// Reading X, and what is computed from it before the selection.
namespace rtlynx::pack {

/// Where a thread stands: two tokens of the block, 16 channels of each step. A token or channels
/// outside the matrix read as zeros.
struct Place {
  int upper;  // token; the other is upper + 8
  bool has_upper;
  bool has_lower;
};

/// Mean and 1 / deviation of the two tokens, for the norms.
struct Moments {
  float upper_mean = 0.0f, upper_rate = 1.0f;
  float lower_mean = 0.0f, lower_rate = 1.0f;
};

__device__ __forceinline__ void load_token(const void* matrix, std::int64_t element, bool inside,
                                           std::uint32_t (&pairs)[8]) {
  const uint4 zero{0, 0, 0, 0};
  const auto* const source =
      reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(matrix) + element);
  const uint4 low = inside ? __ldg(source) : zero;
  const uint4 high = inside ? __ldg(source + 1) : zero;
  pairs[0] = low.x, pairs[1] = low.y, pairs[2] = low.z, pairs[3] = low.w;
  pairs[4] = high.x, pairs[5] = high.y, pairs[6] = high.z, pairs[7] = high.w;
}

/// Channels `channel` .. + 15 of both tokens of a row-major matrix.
__device__ __forceinline__ TokenPair load_pair(const void* matrix, const Params& params,
                                               const Place& place, int channel) {
  const bool inside = channel < params.channels;
  const std::int64_t element = place.upper * params.row_stride + channel;
  TokenPair result;
  load_token(matrix, element, inside && place.has_upper, result.upper);
  load_token(matrix, element + 8 * params.row_stride, inside && place.has_lower, result.lower);
  return result;
}

template <typename Element, int kPairs, typename Function>
__device__ __forceinline__ void map_pairs(std::uint32_t (&pairs)[kPairs], Function function) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    pairs[i] = Element::from_float2(function(Element::to_float2(pairs[i]), i));
  }
}

/// z = (x - mean) * rate * multiplier + shift of neighbouring channels of one token.
template <typename Element, int kPairs>
__device__ __forceinline__ void normalize(const Params& params, int token, int channel, float mean,
                                          float rate, std::uint32_t (&pairs)[kPairs]) {
  const std::int64_t row =
      static_cast<std::int64_t>(static_cast<unsigned>(token) / params.image_tokens) *
      params.channels;
  map_pairs<Element>(pairs, [&](float2 x, int i) {
    const std::int64_t at = row + channel + 2 * i;
    float2 z{(x.x - mean) * rate, (x.y - mean) * rate};
    if (params.multiplier != nullptr) {
      const float2 m = __ldg(reinterpret_cast<const float2*>(params.multiplier + at));
      z = {z.x * m.x, z.y * m.y};
    }
    if (params.shift != nullptr) {
      const float2 b = __ldg(reinterpret_cast<const float2*>(params.shift + at));
      z = {z.x + b.x, z.y + b.y};
    }
    return z;
  });
}

template <typename Element>
__device__ __forceinline__ void apply_gelu(TokenPair& x) {
  const auto gelu = [](float2 v, int) {
    return float2{device::gelu_tanh(v.x), device::gelu_tanh(v.y)};
  };
  map_pairs<Element>(x.upper, gelu);
  map_pairs<Element>(x.lower, gelu);
}

template <typename Element>
__device__ __forceinline__ void apply_swiglu(TokenPair& gate, const TokenPair& up) {
  const auto gated = [](const std::uint32_t(&other)[8]) {
    return [&other](float2 v, int i) {
      const float2 value = Element::to_float2(other[i]);
      return float2{device::silu(v.x) * value.x, device::silu(v.y) * value.y};
    };
  };
  map_pairs<Element>(gate.upper, gated(up.upper));
  map_pairs<Element>(gate.lower, gated(up.lower));
}

/// Either norm, with the modulation of each token read from device memory.
template <typename Element>
__device__ __forceinline__ void apply_norm(const Params& params, const Place& place,
                                           const Moments& moments, int channel, TokenPair& x) {
  if (place.has_upper) {
    normalize<Element>(params, place.upper, channel, moments.upper_mean, moments.upper_rate,
                       x.upper);
  }
  if (place.has_lower) {
    normalize<Element>(params, place.upper + 8, channel, moments.lower_mean, moments.lower_rate,
                       x.lower);
  }
}

/// x to z, in place, at the channels it was loaded from.
template <typename Element>
__device__ __forceinline__ void produce(gpu::Producer producer, const Params& params,
                                        const Place& place, const Moments& moments, int channel,
                                        TokenPair& x) {
  if (channel >= params.channels) return;
  switch (producer) {
    case gpu::Producer::none:
      break;
    case gpu::Producer::gelu:
      apply_gelu<Element>(x);
      break;
    case gpu::Producer::swiglu:
      apply_swiglu<Element>(x, load_pair(params.up, params, place, channel));
      break;
    case gpu::Producer::layer_norm:
    case gpu::Producer::rms_norm:
      apply_norm<Element>(params, place, moments, channel, x);
      break;
  }
}

}  // namespace rtlynx::pack
