// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rtlynx::device {

/// Four channels, lowest bits first, of which two values and their nibble tell.
__device__ __forceinline__ std::uint64_t expand24(std::uint32_t values, unsigned nibble) {
  const std::uint64_t first = values & 0xffffu;
  const std::uint64_t second = values >> 16;
  return first << 16 * (nibble & 3u) | second << 16 * (nibble >> 2 & 3u);
}

/// 16 channels of X~ to `target`, 16-byte aligned, from their eight values and four nibbles. Any
/// bits of metadata are safe: they place values within these channels.
__device__ __forceinline__ void store_expanded24(void* target, uint4 values, unsigned metadata) {
  auto* const halves = static_cast<ulonglong2*>(target);
  halves[0] = {expand24(values.x, metadata), expand24(values.y, metadata >> 4)};
  halves[1] = {expand24(values.z, metadata >> 8), expand24(values.w, metadata >> 12)};
}

}  // namespace rtlynx::device
