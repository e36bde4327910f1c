// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "models/vae/vae.h"

namespace rtlynx {

/// In pixels.
struct PixelSize {
  std::int64_t height = 0, width = 0;
};

/// The smallest memory limit of an autoencoder, in whole MiB.
std::int64_t least_vae_memory(const Vae& vae);

/// Runs `work`, which encodes or decodes pictures of `size` with `vae`. Where the device has no
/// memory left for it, lowers the autoencoder's limit to a quarter, which is half a tile's side,
/// calls `on_limit` with it, in MiB, and runs it again; the limit stays. Throws
/// c10::OutOfMemoryError where that happens with the smallest tiles as well.
void run_within_memory(Vae& vae, PixelSize size, const std::function<void()>& work,
                       const std::function<void(std::int64_t mebibytes)>& on_limit);

}  // namespace rtlynx
