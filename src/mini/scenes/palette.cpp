// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/palette.h"

#include <cstddef>

namespace rtlynx {
namespace {

constexpr std::array<Paint, kColors> kPaints = {{
    {{232, 38, 48}, {255, 172, 172}},    // red
    {{38, 186, 72}, {184, 244, 178}},    // green
    {{56, 112, 255}, {176, 208, 255}},   // blue
    {{255, 222, 40}, {150, 100, 0}},     // yellow
    {{166, 62, 232}, {226, 182, 255}},   // purple
    {{255, 134, 20}, {132, 52, 0}},      // orange
    {{40, 216, 236}, {0, 112, 140}},     // cyan
    {{246, 246, 246}, {146, 146, 152}},  // white
}};

struct Gradient {
  Rgb top;
  Rgb rise;  // from the top edge to the bottom edge at full glow
};

constexpr std::array<Gradient, kBackgrounds> kGradients = {{
    {{8, 8, 12}, {24, 24, 32}},    // black
    {{50, 52, 58}, {26, 26, 26}},  // gray
    {{12, 18, 54}, {14, 22, 46}},  // navy
}};

}  // namespace

Paint paint(Color color) { return kPaints[static_cast<std::size_t>(color)]; }

Rgb background_at(Background background, int glow, int y, int height) {
  const Gradient& gradient = kGradients[static_cast<std::size_t>(background)];
  const int full = 255 * height;
  Rgb value;
  for (std::size_t c = 0; c < 3; ++c)
    value[c] = gradient.top[c] + (gradient.rise[c] * glow * y + full / 2) / full;
  return value;
}

}  // namespace rtlynx
