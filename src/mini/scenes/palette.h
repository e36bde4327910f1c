// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "mini/scenes/scene.h"

namespace rtlynx {

using Rgb = std::array<int, 3>;  // 8-bit values

/// What a colour means in pixels. The second tone, for stripes and checkers, is the same hue at a
/// lightness far from the first: lighter for dark colours, darker for light ones, so that both
/// tones stand clear of every background.
struct Paint {
  Rgb first;
  Rgb second;
};

Paint paint(Color color);

/// The background in the row whose centre lies `y` of `height` half-rows below the top edge; it
/// brightens towards the bottom by an amount that `glow` sets.
Rgb background_at(Background background, int glow, int y, int height);

}  // namespace rtlynx
