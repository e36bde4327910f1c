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
__device__ __forceinline__ TokenPair load_pair(const void* matrix, std::int64_t row_stride,
                                               const Place& place, int channel, bool inside) {
  const std::int64_t element = place.upper * row_stride + channel;
  TokenPair result;
  load_token(matrix, element, inside && place.has_upper, result.upper);
  load_token(matrix, element + 8 * row_stride, inside && place.has_lower, result.lower);
  return result;
}

/// The same of the input: X, and behind it the tail.
__device__ __forceinline__ TokenPair load_input(const Params& params, const Place& place,
                                                int channel) {
  const bool inside = channel < params.channels;
  if (channel < params.tail_start) {
    return load_pair(params.x, params.x_stride, place, channel, inside);
  }
  return load_pair(params.tail, params.tail_stride, place, channel - params.tail_start, inside);
}

template <typename Element, int kPairs, typename Function>
__device__ __forceinline__ void map_pairs(std::uint32_t (&pairs)[kPairs], Function function) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    pairs[i] = Element::from_float2(function(Element::to_float2(pairs[i]), i));
  }
}

/// What a norm does to a pair of channels of all tokens of an image.
struct PairModulation {
  float2 multiplier;  // weight * (1 + scale)
  float2 shift;
};

/// `pair`: both channels, in one register each; a vector that is not there is not read.
template <typename Element>
__device__ __forceinline__ PairModulation modulation_of(const Params& params, std::uint32_t weight,
                                                        std::uint32_t scale, std::uint32_t shift) {
  PairModulation result{{1.0f, 1.0f}, {0.0f, 0.0f}};
  if (params.modulation_scale != nullptr) {
    const float2 s = Element::to_float2(scale);
    result.multiplier = {1.0f + s.x, 1.0f + s.y};
  }
  if (params.weight != nullptr) {
    const float2 w = Element::to_float2(weight);
    result.multiplier = {w.x * result.multiplier.x, w.y * result.multiplier.y};
  }
  if (params.modulation_shift != nullptr) result.shift = Element::to_float2(shift);
  return result;
}

/// z = (x - mean) * rate * multiplier + shift
template <typename Element>
__device__ __forceinline__ std::uint32_t normalize(std::uint32_t pair, float2 mean_and_rate,
                                                   const PairModulation& modulation) {
  const float2 x = Element::to_float2(pair);
  const float mean = mean_and_rate.x, rate = mean_and_rate.y;
  return Element::from_float2(
      {fmaf((x.x - mean) * rate, modulation.multiplier.x, modulation.shift.x),
       fmaf((x.y - mean) * rate, modulation.multiplier.y, modulation.shift.y)});
}

/// Neighbouring channels of one token, with its own row of the modulation from device memory.
template <typename Element, int kPairs>
__device__ __forceinline__ void normalize_token(const Params& params, int token, int channel,
                                                std::uint32_t (&pairs)[kPairs]) {
  const std::int64_t image = static_cast<unsigned>(token) / params.image_tokens;
  const auto load = [&](const void* vector, std::int64_t stride, int i) {
    if (vector == nullptr) return 0u;
    const auto* const row = static_cast<const std::uint16_t*>(vector) + image * stride + channel;
    return __ldg(reinterpret_cast<const std::uint32_t*>(row) + i);
  };
  const float2 moments = __ldg(params.moments + token);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const PairModulation modulation = modulation_of<Element>(
        params, load(params.weight, 0, i), load(params.modulation_scale, params.scale_stride, i),
        load(params.modulation_shift, params.shift_stride, i));
    pairs[i] = normalize<Element>(pairs[i], moments, modulation);
  }
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

/// The norm, with the modulation of each token read from device memory.
template <typename Element>
__device__ __forceinline__ void apply_norm(const Params& params, const Place& place, int channel,
                                           TokenPair& x) {
  if (place.has_upper) normalize_token<Element>(params, place.upper, channel, x.upper);
  if (place.has_lower) normalize_token<Element>(params, place.upper + 8, channel, x.lower);
}

/// x to z, in place, at the channels it was loaded from.
template <typename Element>
__device__ __forceinline__ void produce(Producer producer, const Params& params, const Place& place,
                                        int channel, TokenPair& x) {
  if (channel >= params.channels) return;
  switch (producer) {
    case Producer::none:
      break;
    case Producer::gelu:
      apply_gelu<Element>(x);
      break;
    case Producer::swiglu:
      apply_swiglu<Element>(x, load_pair(params.up, params.up_stride, place, channel, true));
      break;
    case Producer::norm:
      apply_norm<Element>(params, place, channel, x);
      break;
  }
}

}  // namespace rtlynx::pack
