// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "kernels/pack/token_scale.cuh"

/// Selection of 2 of 4 for two tokens at once, and the metadata it gives, in registers. A register
/// holds two 16-bit elements.
namespace rtlynx::pack {

/// 16 channels of two tokens: what one thread selects from at a time. Pair i of a token holds
/// channels 2 i and 2 i + 1.
struct TokenPair {
  std::uint32_t upper[8];
  std::uint32_t lower[8];
};

/// What stays of a TokenPair: 8 values of each token, and 8 nibbles, those of the upper token in
/// the low half: the metadata word of a lane (rtlynx/operand24.h).
struct Selected {
  std::uint32_t upper[4];
  std::uint32_t lower[4];
  std::uint32_t metadata;
  std::uint32_t largest;  // magnitude of each token, as bits, NaN above all; upper in the low half
  bool usual;             // the largest of all of the warp's tokens are in the middle range
};

__device__ __forceinline__ __half2 as_half2(std::uint32_t bits) {
  __half2 pair;
  memcpy(&pair, &bits, sizeof(pair));
  return pair;
}

__device__ __forceinline__ std::uint32_t as_bits(__half2 pair) {
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

/// The halves of a and b that are low (or high), a's in the low half.
__device__ __forceinline__ std::uint32_t low_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ std::uint32_t high_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

/// mask ? a : b, bit by bit.
__device__ __forceinline__ std::uint32_t choose(std::uint32_t mask, std::uint32_t a,
                                                std::uint32_t b) {
  return (mask & a) | (~mask & b);
}

/// Which of the four channels win, as masks over the halves: the winner of channels 0 and 1 is 0,
/// that of 2 and 3 is 2, both of 0 and 1 stay, both of 2 and 3 stay.
struct Outcome {
  std::uint32_t zero_wins, two_wins, first_pair, last_pair;
  std::uint32_t largest;
};

/// Of magnitudes that spell finite fp16 numbers, whatever the element type: positive numbers order
/// as their bits do. Others take compare_exactly.
__device__ __forceinline__ Outcome compare(const std::uint32_t (&x)[4]) {
  const __half2 k0 = __habs2(as_half2(x[0])), k1 = __habs2(as_half2(x[1]));
  const __half2 k2 = __habs2(as_half2(x[2])), k3 = __habs2(as_half2(x[3]));
  const __half2 high01 = __hmax2_nan(k0, k1), low01 = __hmin2(k0, k1);
  const __half2 high23 = __hmax2_nan(k2, k3), low23 = __hmin2(k2, k3);
  return {.zero_wins = __hge2_mask(k0, k1),
          .two_wins = __hge2_mask(k2, k3),
          .first_pair = __hge2_mask(low01, high23),
          .last_pair = __hgt2_mask(low23, high01),
          .largest = as_bits(__hmax2_nan(high01, high23))};
}

/// A mask of the halves in which a >= b, both below 2^15: there a + 2^15 - b keeps the highest bit.
__device__ __forceinline__ std::uint32_t at_least(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t kHighest = 0x80008000u;
  return ((((a | kHighest) - b) & kHighest) >> 15) * 0xffffu;
}

/// The same by integers; NaN exceeds everything and equals NaN.
template <typename Element>
__device__ __forceinline__ Outcome compare_exactly(const std::uint32_t (&x)[4]) {
  constexpr std::uint32_t kNan = (Element::kInfinity + 1u) * 0x00010001u;
  const auto magnitude = [](std::uint32_t bits) { return __vminu2(bits & 0x7fff7fffu, kNan); };
  const std::uint32_t k0 = magnitude(x[0]), k1 = magnitude(x[1]);
  const std::uint32_t k2 = magnitude(x[2]), k3 = magnitude(x[3]);
  const std::uint32_t high01 = __vmaxu2(k0, k1), low01 = __vminu2(k0, k1);
  const std::uint32_t high23 = __vmaxu2(k2, k3), low23 = __vminu2(k2, k3);
  return {.zero_wins = at_least(k0, k1),
          .two_wins = at_least(k2, k3),
          .first_pair = at_least(low01, high23),
          .last_pair = ~at_least(high01, low23),
          .largest = __vmaxu2(high01, high23)};
}

template <typename Element, bool kExact>
__device__ __forceinline__ Selected select_by(const TokenPair& z) {
  Selected result{};
#pragma unroll
  for (int group = 0; group < 4; ++group) {
    const std::uint32_t x[4] = {low_halves(z.upper[2 * group], z.lower[2 * group]),
                                high_halves(z.upper[2 * group], z.lower[2 * group]),
                                low_halves(z.upper[2 * group + 1], z.lower[2 * group + 1]),
                                high_halves(z.upper[2 * group + 1], z.lower[2 * group + 1])};
    Outcome won;
    if constexpr (kExact) {
      won = compare_exactly<Element>(x);
      result.largest = __vmaxu2(result.largest, won.largest);
    } else {
      won = compare(x);
      result.largest = as_bits(__hmax2_nan(as_half2(result.largest), as_half2(won.largest)));
    }
    const std::uint32_t zero = won.zero_wins | won.first_pair;
    const std::uint32_t two = won.two_wins & ~won.last_pair;
    const std::uint32_t first = choose(won.last_pair, x[2], choose(zero, x[0], x[1]));
    const std::uint32_t second = choose(won.first_pair, x[1], choose(two, x[2], x[3]));
    result.upper[group] = low_halves(first, second);
    result.lower[group] = high_halves(first, second);
    // Nibble: index of the first, index of the second << 2.
    const std::uint32_t bit = 0x00010001u << (4 * group);
    result.metadata |= ~(won.last_pair | zero) & bit;
    result.metadata |= won.last_pair & bit << 1;
    result.metadata |= (won.first_pair | ~two) & bit << 2;
    result.metadata |= ~won.first_pair & bit << 3;
  }
  return result;
}

/// Whether both halves are in the middle range of TokenSums, which ends below the infinity of fp16:
/// then compare() orders them as well.
template <typename Element>
__device__ __forceinline__ bool both_in_middle(std::uint32_t largest) {
  const auto both = [](std::uint32_t bits) { return as_half2(bits * 0x00010001u); };
  const bool below = __hblt2(as_half2(largest), both(TokenSums::end_of_middle<Element>()));
  const std::uint32_t tiny =
      __hlt2_mask(as_half2(largest), both(TokenSums::begin_of_middle<Element>()));
  return below && (tiny & largest) == 0;
}

/// The specification of rtlynx/compress24.h, bit for bit; for whole warps.
template <typename Element>
__device__ __forceinline__ Selected select(const TokenPair& z) {
  Selected result = select_by<Element, false>(z);
  const bool usual = __all_sync(0xffffffffu, both_in_middle<Element>(result.largest));
  if (!usual) result = select_by<Element, true>(z);
  result.usual = usual;
  return result;
}

}  // namespace rtlynx::pack
