// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/half.h"

namespace rtlynx {

inline constexpr int kGroup = 4;          // channels of which 2 stay
inline constexpr int kWordChannels = 16;  // of one metadata word

/// The magnitude as an integer that orders as the magnitudes do, all NaN alike and on top.
constexpr std::uint32_t magnitude_key(float value) {
  return std::min(std::bit_cast<std::uint32_t>(value) & 0x7fffffffu, 0x7f800001u);
}
constexpr std::uint32_t magnitude_key(Half value) {
  return std::min<std::uint32_t>(value.bits & 0x7fffu, 0x7c01u);
}
constexpr std::uint32_t magnitude_key(BFloat16 value) {
  return std::min<std::uint32_t>(value.bits & 0x7fffu, 0x7f81u);
}
constexpr std::uint32_t magnitude_key(E4m3 value) { return value.bits & 0x7fu; }

/// Which two of a group stay: first < second.
struct Pair24 {
  int first;
  int second;
};

/// The selection rule. Strict comparisons in channel order let the lower channel win a tie.
template <typename T>
constexpr Pair24 select24(const T* group) {
  int largest = 0;
  for (int i = 1; i < kGroup; ++i) {
    if (magnitude_key(group[i]) > magnitude_key(group[largest])) largest = i;
  }
  int other = largest == 0 ? 1 : 0;
  for (int i = other + 1; i < kGroup; ++i) {
    if (i != largest && magnitude_key(group[i]) > magnitude_key(group[other])) other = i;
  }
  return {std::min(largest, other), std::max(largest, other)};
}

constexpr std::uint8_t to_nibble(Pair24 pair) {
  return static_cast<std::uint8_t>(pair.first | pair.second << 2);
}

/// Undoes to_nibble. The nibble is one that hardware accepts if and only if first < second.
constexpr Pair24 from_nibble(unsigned nibble) {
  return {static_cast<int>(nibble & 3u), static_cast<int>(nibble >> 2 & 3u)};
}

/// Nibble `group` of a token's row-major metadata.
constexpr unsigned nibble_at(const std::uint16_t* metadata, std::int64_t group) {
  return metadata[group / 4] >> (4 * (group % 4)) & 0xfu;
}

// x [K] -> values [K/2], metadata [K/16]
template <typename T>
void compress_row(const T* x, std::int64_t channels, T* values, std::uint16_t* metadata) {
  std::fill_n(metadata, channels / kWordChannels, std::uint16_t{0});
  for (std::int64_t group = 0; group < channels / kGroup; ++group) {
    const T* const source = x + group * kGroup;
    const Pair24 pair = select24(source);
    values[2 * group] = source[pair.first];
    values[2 * group + 1] = source[pair.second];
    metadata[group / 4] |= static_cast<std::uint16_t>(to_nibble(pair) << (4 * (group % 4)));
  }
}

}  // namespace rtlynx
