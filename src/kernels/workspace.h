// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace rtlynx::gpu {

/// The beginning of every workspace: counters and flags, zero between calls. What lies behind it is
/// written before it is read. All calls share the one layout, so that they can share the memory.
constexpr std::size_t zeroed_bytes(int multiprocessors) {
  constexpr std::size_t kWordsPerMultiprocessor = 4;
  return (static_cast<std::size_t>(multiprocessors) * kWordsPerMultiprocessor * 4 + 255) / 256 *
         256;
}

}  // namespace rtlynx::gpu
