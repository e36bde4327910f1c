// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "rtlynx/dtype.h"

namespace rtlynx {

/// IEEE binary16, as storage.
struct Half {
  std::uint16_t bits = 0;
};

/// The upper half of an fp32, as storage.
struct BFloat16 {
  std::uint16_t bits = 0;
};

/// OCP FP8 E4M3, as storage: no infinity, one NaN of each sign, at most 448.
struct E4m3 {
  std::uint8_t bits = 0;
};

// Widening is exact and branch-free, so that loops over it vectorise.

constexpr float to_float(float value) { return value; }

constexpr float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

constexpr float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  // Exponent bias 15 to 127; infinity and NaN take the step twice to reach exponent 255.
  const std::uint32_t rebias = magnitude >= 0x7c00u ? 2 * 0x38000000u : 0x38000000u;
  const std::uint32_t normal = (magnitude << 13) + rebias;
  const float steps = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
  const std::uint32_t is_subnormal = 0u - static_cast<std::uint32_t>(magnitude < 0x0400u);
  return std::bit_cast<float>(sign | (normal & ~is_subnormal) |
                              (std::bit_cast<std::uint32_t>(steps) & is_subnormal));
}

constexpr float to_float(E4m3 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x80u) << 24;
  const std::uint32_t magnitude = value.bits & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude >= 0x08u) return std::bit_cast<float>(sign | ((magnitude << 20) + 0x3c000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-9f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

// Narrowing rounds to nearest, ties to even; overflow gives infinity. A NaN stays one: it becomes
// quiet and keeps its sign and the upper bits of its payload.

constexpr BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>(bits >> 16 | 0x0040u)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

constexpr Half to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x03ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520, half way from the largest to 2^16
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // 2^-14: adding 0.5 rounds at 2^-24, the subnormal step
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0x0fffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}

/// As the GPU's conversion with saturation: beyond 448 and infinity give 448 of their sign, NaN
/// gives 0x7f.
constexpr E4m3 to_e4m3(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 24 & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7f};
  std::uint32_t code = 0;
  if (magnitude >= 0x43e00000u) {  // 448
    code = 0x7e;
  } else if (magnitude < 0x3c800000u) {  // 2^-6: adding 2^14 rounds at 2^-9, the subnormal step
    code = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) -
           std::bit_cast<std::uint32_t>(0x1p14f);
  } else {
    code = (magnitude - 0x3c000000u + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20;
  }
  return {static_cast<std::uint8_t>(sign | code)};
}

/// Rounds to the element type T: float, Half or BFloat16.
template <typename T>
constexpr T from_float(float value);
template <>
constexpr float from_float<float>(float value) {
  return value;
}
template <>
constexpr Half from_float<Half>(float value) {
  return to_half(value);
}
template <>
constexpr BFloat16 from_float<BFloat16>(float value) {
  return to_bfloat16(value);
}

/// Calls body(T{}), T being the element type of `dtype`: one that activations have.
template <typename Body>
decltype(auto) with_element_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return std::forward<Body>(body)(float{});
    case DType::f16:
      return std::forward<Body>(body)(Half{});
    case DType::bf16:
      return std::forward<Body>(body)(BFloat16{});
    case DType::e4m3:
      break;
  }
  fail("dtype", "f32, f16 or bf16", std::to_string(static_cast<int>(dtype)));
}

}  // namespace rtlynx
