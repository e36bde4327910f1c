// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mini/mini_pipeline.h"

namespace rtlynx {

/// lynx-mini: FLUX.1's transformer at small size over 4x4 patches of raw RGB, with a table of words
/// as text encoder.
struct LynxMiniShape {
  std::int64_t heads = 4;  ///< of 64 channels; the hidden size is 64 * heads
  std::int64_t double_blocks = 3;
  std::int64_t single_blocks = 6;
};

/// A freshly initialised lynx-mini on the CPU in fp32: Linear layers as torch.nn.Linear starts
/// them, modulation and final projection at zero so that every block starts as the identity.
Pipeline make_lynx_mini(const LynxMiniShape& shape, std::uint64_t seed);

}  // namespace rtlynx
