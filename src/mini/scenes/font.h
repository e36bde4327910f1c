// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace rtlynx {

inline constexpr int kGlyphWidth = 5;
inline constexpr int kGlyphHeight = 7;

/// Width in pixels of a word of lower-case letters, drawn as capitals one pixel apart.
constexpr int text_width(std::string_view text) {
  return static_cast<int>(text.size()) * (kGlyphWidth + 1) - 1;
}

/// Whether the pixel at (x, y) from the word's top left corner is set; false outside of it.
bool text_bit(std::string_view text, int x, int y);

}  // namespace rtlynx
