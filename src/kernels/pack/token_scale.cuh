// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/device/element.cuh"

namespace rtlynx::pack {

/// Sums of squares of all and of the kept elements of a token, for s = sqrt(all / kept). They are
/// held in units of the squared range of the largest element so far, so that neither tiny nor huge
/// tokens lose them.
class TokenSums {
 public:
  /// Adds one thread's elements: `all` kAll and `kept` kKept registers of pairs, `largest` the
  /// bits of their largest magnitude.
  template <typename Element, int kAll, int kKept>
  __device__ __forceinline__ void add(const std::uint32_t (&all)[kAll],
                                      const std::uint32_t (&kept)[kKept], std::uint32_t largest) {
    const int range = range_of<Element>(largest);
    const float unit = unit_of(range);
    TokenSums step;
    step.range_ = range;
    step.all_ = sum_of_squares<Element>(all, unit);
    step.kept_ = sum_of_squares<Element>(kept, unit);
    add(step);
  }

  /// The magnitudes, as bits, whose squares fp32 adds up as they are: from `begin` and below `end`,
  /// and 0.
  template <typename Element>
  static __device__ constexpr std::uint32_t begin_of_middle() {
    return is_f16<Element> ? 1 : (127u - 40u) << 7;  // any but 0; 2^-40
  }
  template <typename Element>
  static __device__ constexpr std::uint32_t end_of_middle() {
    return is_f16<Element> ? std::uint32_t{F16::kInfinity} : (127u + 50u) << 7;  // infinity; 2^50
  }

  /// Adds sums of elements whose largest is in the middle.
  __device__ __forceinline__ void add_middle(float all, float kept) {
    if (all == 0.0f) return;  // of zeros, which have no range
    TokenSums part;
    part.all_ = all;
    part.kept_ = kept;
    part.range_ = kMiddle;
    add(part);
  }

  __device__ __forceinline__ void add(const TokenSums& other) {
    const int range = max(range_, other.range_);
    const float own = step_down(range - range_), others = step_down(range - other.range_);
    all_ = fmaf(all_, own, other.all_ * others);
    kept_ = fmaf(kept_, own, other.kept_ * others);
    range_ = range;
  }

  /// Adds the sums of the lanes of a quad, which hold parts of the same token.
  __device__ __forceinline__ void add_quad() {
#pragma unroll
    for (int offset = 1; offset <= 2; offset *= 2) {
      TokenSums other;
      other.all_ = __shfl_xor_sync(0xffffffffu, all_, offset);
      other.kept_ = __shfl_xor_sync(0xffffffffu, kept_, offset);
      other.range_ = __shfl_xor_sync(0xffffffffu, range_, offset);
      add(other);
    }
  }

  /// ||z|| / ||z~||, never below 1; exactly 1 for a token of zeros, and for one with NaN or
  /// infinity.
  __device__ float scale() const {
    return range_ == kNotFinite || kept_ == 0.0f ? 1.0f : fmaxf(sqrtf(all_ / kept_), 1.0f);
  }

  /// For shared memory.
  __device__ float4 to_float4() const { return {all_, kept_, __int_as_float(range_), 0.0f}; }
  __device__ static TokenSums from(const float4& values) {
    TokenSums result;
    result.all_ = values.x;
    result.kept_ = values.y;
    result.range_ = __float_as_int(values.z);
    return result;
  }

 private:
  // Of fp16 all squares fit fp32.
  template <typename Element>
  static constexpr bool is_f16 = Element::kInfinity == F16::kInfinity;

  // Ranges of a token's largest magnitude: below the middle, the middle, above; NaN or infinity.
  static constexpr int kTiny = 0, kMiddle = 1, kHuge = 2, kNotFinite = 3;

  template <typename Element>
  static __device__ __forceinline__ int range_of(std::uint32_t largest) {
    if (largest >= Element::kInfinity) return kNotFinite;
    return largest < begin_of_middle<Element>() ? kTiny
           : largest < end_of_middle<Element>() ? kMiddle
                                                : kHuge;
  }

  // Elements are multiplied by 2^72, 1 or 2^-72 before squaring: 2^16 squares stay finite.
  static __device__ __forceinline__ float unit_of(int range) {
    return range == kTiny ? 0x1p72f : range == kMiddle ? 1.0f : 0x1p-72f;
  }

  // What sums are multiplied by to serve in a unit so many ranges up: what was tiny vanishes.
  static __device__ __forceinline__ float step_down(int ranges) {
    return ranges == 0 ? 1.0f : ranges == 1 ? 0x1p-144f : 0.0f;
  }

  template <typename Element, int kCount>
  static __device__ __forceinline__ float sum_of_squares(const std::uint32_t (&pairs)[kCount],
                                                         float unit) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float2 v = Element::to_float2(pairs[i]);
      sum = fmaf(v.x * unit, v.x * unit, sum);
      sum = fmaf(v.y * unit, v.y * unit, sum);
    }
    return sum;
  }

  float all_ = 0.0f;
  float kept_ = 0.0f;
  int range_ = kTiny;
};

}  // namespace rtlynx::pack
