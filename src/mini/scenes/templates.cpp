// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/templates.h"

#include <cstddef>

#include "mini/scenes/raster.h"

namespace rtlynx {
namespace {

static_assert(TemplateBank::kStep * TemplateBank::kCentre >= kShapeJitter &&
                  TemplateBank::kStep * TemplateBank::kCentre >= kWordJitter,
              "the grid of offsets covers the jitter");

std::vector<Item> list_kinds() {
  std::vector<Item> kinds;
  for (int shape = 0; shape < kShapes; ++shape) {
    Item item;
    item.shape = static_cast<Shape>(shape);
    const int textures = takes_texture(item.shape) ? kTextures : 1;
    for (int texture = 0; texture < textures; ++texture) {
      item.texture = static_cast<Texture>(texture);
      item.size = Size::large;
      item.count = 1;
      kinds.push_back(item);
      item.size = Size::small;
      for (item.count = 1; item.count <= kMaxCount; ++item.count) kinds.push_back(item);
    }
  }
  for (std::size_t word = 0; word < kWords.size(); ++word) {
    Item item;
    item.word = static_cast<int>(word);
    kinds.push_back(item);
  }
  return kinds;
}

Template make_template(const Item& item) {
  Template result;
  result.item = item;
  std::vector<Coverage> coverage(kQuadrantSide * kQuadrantSide);
  rasterize(item, kSceneSide, coverage);
  for (std::size_t i = 0; i < coverage.size(); ++i) {
    const Coverage& pixel = coverage[i];
    if (pixel.first + pixel.second == 0) continue;
    result.pixels.push_back({static_cast<std::uint16_t>(i), pixel.first, pixel.second});
    const float first = static_cast<float>(pixel.first) / kSamples;
    const float second = static_cast<float>(pixel.second) / kSamples;
    result.first_first += first * first;
    result.first_second += first * second;
    result.second_second += second * second;
  }
  return result;
}

}  // namespace

TemplateBank::TemplateBank() {
  for (Item item : list_kinds()) {
    for (int row = 0; row < kOffsets; ++row) {
      for (int column = 0; column < kOffsets; ++column) {
        item.dx = (column - kCentre) * kStep;
        item.dy = (row - kCentre) * kStep;
        templates_.push_back(make_template(item));
      }
    }
  }
}

const TemplateBank& template_bank() {
  static const TemplateBank bank;
  return bank;
}

}  // namespace rtlynx
