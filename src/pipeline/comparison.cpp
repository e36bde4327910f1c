// SPDX-License-Identifier: Apache-2.0
#include "pipeline/comparison.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

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

int side_by_side_width(int width, bool with_other) {
  const int panels = with_other ? 4 : 3;
  return panels * width + (panels - 1) * kGap;
}

Image side_by_side(const Image& dense, const Image& sparse, const Image* other) {
  std::vector<const Image*> shown = {&dense, &sparse};
  if (other != nullptr) shown.push_back(other);
  for (const Image* image : shown) {
    require(dense.width == image->width && dense.height == image->height, "side_by_side",
            "pictures of one size", size_of(dense) + " and " + size_of(*image));
  }
  const int step = dense.width + kGap;
  Image sheet(side_by_side_width(dense.width, other != nullptr), dense.height);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), std::uint8_t{255});
  const int last = static_cast<int>(shown.size()) * step;
  for (int y = 0; y < dense.height; ++y) {
    for (int x = 0; x < dense.width; ++x) {
      for (std::size_t i = 0; i < shown.size(); ++i) {
        std::copy_n(shown[i]->pixel(x, y), kChannels,
                    sheet.pixel(x + static_cast<int>(i) * step, y));
      }
      const std::uint8_t* a = dense.pixel(x, y);
      const std::uint8_t* b = sparse.pixel(x, y);
      std::uint8_t* difference = sheet.pixel(x + last, y);
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

Image reduce(const Image& image, int factor) {
  require(factor >= 1 && factor <= std::min(image.width, image.height), "reduce",
          "a factor from 1 to the shorter side", std::to_string(factor));
  Image small(image.width / factor, image.height / factor);
  const int pixels = factor * factor;
  for (int y = 0; y < small.height; ++y) {
    for (int x = 0; x < small.width; ++x) {
      for (int c = 0; c < kChannels; ++c) {
        int sum = 0;
        for (int i = 0; i < pixels; ++i) {
          sum += image.pixel(x * factor + i % factor, y * factor + i / factor)[c];
        }
        small.pixel(x, y)[c] = static_cast<std::uint8_t>((sum + pixels / 2) / pixels);
      }
    }
  }
  return small;
}

}  // namespace rtlynx
