// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "mini/scenes/scene.h"

namespace rtlynx {

inline constexpr int kSamples = 16;  // per pixel, on a 4x4 grid

/// How many of a pixel's samples an item covers with each of its two tones.
struct Coverage {
  std::uint8_t first = 0;
  std::uint8_t second = 0;
};

/// Adds the item's coverage of its own quadrant: [side/2, side/2], row-major, for a picture of
/// `side` pixels. `dx` and `dy` may exceed the jitter; what leaves the quadrant is cut off.
void rasterize(const Item& item, int side, std::span<Coverage> coverage);

}  // namespace rtlynx
