// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "mini/scenes/leaves.h"
#include "mini/scenes/palette.h"
#include "mini/scenes/raster.h"
#include "mini/scenes/scene.h"

namespace rtlynx {
namespace {

constexpr int kMinSide = 32;
constexpr int kMaxSide = 1024;

void fill_background(const Scene& scene, int side, std::span<std::uint8_t> rgb) {
  auto* out = rgb.data();
  for (int y = 0; y < side; ++y) {
    const Rgb value = background_at(scene.background, scene.glow, 2 * y + 1, 2 * side);
    for (int x = 0; x < side; ++x)
      for (const int channel : value) *out++ = static_cast<std::uint8_t>(channel);
  }
}

void blend(const Paint& tones, const Coverage& pixel, std::uint8_t* out) {
  const int rest = kSamples - pixel.first - pixel.second;
  for (std::size_t c = 0; c < 3; ++c) {
    const int sum = out[c] * rest + tones.first[c] * pixel.first + tones.second[c] * pixel.second;
    out[c] = static_cast<std::uint8_t>((sum + kSamples / 2) / kSamples);
  }
}

void draw(const Item& item, int side, std::vector<Coverage>& coverage,
          std::span<std::uint8_t> rgb) {
  std::fill(coverage.begin(), coverage.end(), Coverage{});
  rasterize(item, side, coverage);
  const Paint tones = paint(item.color);
  const int half = side / 2;
  const int left = static_cast<int>(item.position) % 2 * half;
  const int top = static_cast<int>(item.position) / 2 * half;
  for (int y = 0; y < half; ++y) {
    for (int x = 0; x < half; ++x) {
      const Coverage& pixel = coverage[static_cast<std::size_t>(y * half + x)];
      if (pixel.first + pixel.second == 0) continue;
      blend(tones, pixel, rgb.data() + static_cast<std::size_t>((top + y) * side + left + x) * 3);
    }
  }
}

}  // namespace

void render(const Scene& scene, int side, std::span<std::uint8_t> rgb) {
  validate(scene);
  if (side < kMinSide || side > kMaxSide || side % 2 != 0)
    throw UsageError("render: required an even side from 32 to 1024, got " + std::to_string(side));
  const std::size_t bytes = static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3;
  if (rgb.size() != bytes)
    fail("render", "a buffer of " + std::to_string(bytes) + " bytes", std::to_string(rgb.size()));
  fill_background(scene, side, rgb);
  if (scene.leaves) draw_leaves(*scene.leaves, side, rgb);
  std::vector<Coverage> coverage(static_cast<std::size_t>(side / 2 * (side / 2)));
  for (const Item& item : scene.items) draw(item, side, coverage, rgb);
}

Image render(const Scene& scene, int side) {
  Image image(std::max(side, 0), std::max(side, 0));
  render(scene, side, image.rgb);
  return image;
}

}  // namespace rtlynx
