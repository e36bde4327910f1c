// SPDX-License-Identifier: Apache-2.0
#include "pipeline/comparison.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr int kGap = 2;
constexpr int kDifferenceGain = 4;
constexpr int kChannels = 3;

std::string size_of(const Image& image) {
  return std::to_string(image.width) + "x" + std::to_string(image.height);
}

}  // namespace

int side_by_side_width(int width) { return 3 * width + 2 * kGap; }

Image side_by_side(const Image& dense, const Image& sparse) {
  require(dense.width == sparse.width && dense.height == sparse.height, "side_by_side",
          "two pictures of one size", size_of(dense) + " and " + size_of(sparse));
  const int step = dense.width + kGap;
  Image sheet(side_by_side_width(dense.width), dense.height);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), std::uint8_t{255});
  for (int y = 0; y < dense.height; ++y) {
    for (int x = 0; x < dense.width; ++x) {
      const std::uint8_t* a = dense.pixel(x, y);
      const std::uint8_t* b = sparse.pixel(x, y);
      std::copy_n(a, kChannels, sheet.pixel(x, y));
      std::copy_n(b, kChannels, sheet.pixel(x + step, y));
      std::uint8_t* difference = sheet.pixel(x + 2 * step, y);
      for (int c = 0; c < kChannels; ++c) {
        difference[c] =
            static_cast<std::uint8_t>(std::min(255, kDifferenceGain * std::abs(a[c] - b[c])));
      }
    }
  }
  return sheet;
}

Image enlarge(const Image& image, int factor) {
  require(factor >= 1, "enlarge", "a factor of at least 1", std::to_string(factor));
  Image large(image.width * factor, image.height * factor);
  for (int y = 0; y < large.height; ++y) {
    for (int x = 0; x < large.width; ++x) {
      std::copy_n(image.pixel(x / factor, y / factor), kChannels, large.pixel(x, y));
    }
  }
  return large;
}

}  // namespace rtlynx
