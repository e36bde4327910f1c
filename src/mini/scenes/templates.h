// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mini/scenes/scene.h"

namespace rtlynx {

inline constexpr int kQuadrantSide = kSceneSide / 2;

/// A drawn item without its colour: how far each pixel of a quadrant takes on either tone.
struct Template {
  struct Pixel {
    std::uint16_t index;  // row-major in the quadrant
    std::uint8_t first;   // samples out of kSamples
    std::uint8_t second;
  };

  Item item;
  std::vector<Pixel> pixels;  // those that the item touches
  float first_first = 0.0f;   // sums of products of the two tones' coverages, each in [0, 1]
  float first_second = 0.0f;
  float second_second = 0.0f;
};

/// Every kind of item at every offset of a square grid.
class TemplateBank {
 public:
  static constexpr int kStep = 2;     // quarter pixels
  static constexpr int kOffsets = 9;  // along each axis, centred on no offset
  static constexpr int kCentre = kOffsets / 2;

  TemplateBank();

  int kinds() const { return static_cast<int>(templates_.size()) / (kOffsets * kOffsets); }

  /// `column` and `row` are in [0, kOffsets).
  const Template& at(int kind, int column, int row) const {
    return templates_[static_cast<std::size_t>((kind * kOffsets + row) * kOffsets + column)];
  }

 private:
  std::vector<Template> templates_;  // [kinds, kOffsets, kOffsets], row-major
};

/// Built on first use.
const TemplateBank& template_bank();

}  // namespace rtlynx
