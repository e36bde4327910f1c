// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "rtlynx/dtype.h"

namespace rtlynx::testing {

inline constexpr std::array kTypes = {DType::f32, DType::f16, DType::bf16};

/// The bits of one element, in the low half for 16-bit types.
using ElementBits = std::uint32_t;

/// Bits on which selection and scale go wrong first: both zeros, the smallest subnormal, the
/// smallest normal, one, its neighbour, the largest finite value, infinity, and a quiet and a
/// signalling NaN.
inline std::vector<ElementBits> edge_bits(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return {0x00000000, 0x00000001, 0x00800000, 0x3f800000, 0x3f800001,
              0x7f7fffff, 0x7f800000, 0x7fc00123, 0x7f800001};
    case DType::f16:
      return {0x0000, 0x0001, 0x0400, 0x3c00, 0x3c01, 0x7bff, 0x7c00, 0x7e12, 0x7c01};
    case DType::bf16:
      return {0x0000, 0x0001, 0x0080, 0x3f80, 0x3f81, 0x7f7f, 0x7f80, 0x7fd2, 0x7f81};
    case DType::e4m3:
      break;
  }
  return {};
}

inline ElementBits sign_bit(DType dtype) { return dtype == DType::f32 ? 0x80000000u : 0x8000u; }

/// Rows of elements of every kind a kernel meets, as bytes of `dtype`.
inline std::vector<std::byte> adversarial_rows(DType dtype, std::int64_t rows, std::int64_t columns,
                                               std::uint32_t seed) {
  std::mt19937 random(seed);
  const std::vector<ElementBits> edges = edge_bits(dtype);
  const auto any = [&](std::size_t size) { return random() % static_cast<std::uint32_t>(size); };
  const auto draw = [&](std::int64_t row) -> ElementBits {
    const ElementBits sign = random() % 2 ? sign_bit(dtype) : 0;
    switch (row % 6) {
      case 0:  // any bits at all, NaN among them
        return dtype == DType::f32 ? random() : random() & 0xffffu;
      case 1:  // the edges
        return edges[any(edges.size())] | sign;
      case 2:  // finite edges only, so that s is not 1 for the sake of an infinity
        return edges[any(6)] | sign;
      case 3:  // ties everywhere: two magnitudes
        return edges[3 + any(2)] | sign;
      case 4:  // tokens of tiny norm
        return edges[any(2)] | sign;
      default:  // zeros of both signs
        return sign;
    }
  };
  const int size = size_of(dtype);
  std::vector<std::byte> bytes;
  bytes.reserve(static_cast<std::size_t>(rows * columns * size));
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const ElementBits bits = draw(columns == 0 ? 0 : i / columns);
    for (int byte = 0; byte < size; ++byte) {
      bytes.push_back(static_cast<std::byte>(bits >> (8 * byte) & 0xffu));
    }
  }
  return bytes;
}

}  // namespace rtlynx::testing
