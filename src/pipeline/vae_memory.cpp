// SPDX-License-Identifier: Apache-2.0
#include "pipeline/vae_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace rtlynx {
namespace {

constexpr std::int64_t kMebi = 1 << 20;
constexpr std::int64_t kFewer = 4;

/// In whole MiB, so that an option can ask for the same. False if the limit is the smallest.
bool lower_limit(Vae& vae, PixelSize size) {
  const std::int64_t whole = vae.activation_bytes(size.height, size.width);
  const std::int64_t now = std::min(whole, vae.memory_limit().value_or(whole));
  const std::int64_t least = least_vae_memory(vae) * kMebi;
  if (now <= least) return false;
  vae.set_memory_limit(std::max(least, now / kFewer / kMebi * kMebi));
  return true;
}

}  // namespace

std::int64_t least_vae_memory(const Vae& vae) {
  return (vae.smallest_memory_limit() + kMebi - 1) / kMebi;
}

void run_within_memory(Vae& vae, PixelSize size, const std::function<void()>& work,
                       const std::function<void(std::int64_t mebibytes)>& on_limit) {
  for (;;) {
    try {
      return work();
    } catch (const c10::OutOfMemoryError&) {
      if (!lower_limit(vae, size)) throw;
    }
    // Behind the handler, where nothing is left of what was computed.
    on_limit(*vae.memory_limit() / kMebi);
  }
}

}  // namespace rtlynx
