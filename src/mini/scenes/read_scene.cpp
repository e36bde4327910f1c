// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "metrics/same_size.h"
#include "mini/scenes/background_fit.h"
#include "mini/scenes/checker.h"
#include "mini/scenes/palette.h"
#include "mini/scenes/raster.h"
#include "mini/scenes/templates.h"

namespace rtlynx {
namespace {

constexpr int kPixels = kQuadrantSide * kQuadrantSide;

// A blurred line is paler than a drawn one, so a template may be faded, or strengthened a little.
constexpr float kMinContrast = 0.55f;
constexpr float kMaxContrast = 1.15f;
// Blur also draws the two tones of a texture together; this is how far, beside not at all.
constexpr float kTextureFade = 0.5f;
// An item must explain this share of what stands out from the background, and this much of it in
// squared 8-bit values, a tenth of the faintest word.
constexpr float kMinMatch = 0.3f;
constexpr float kMinGain = 1e5f;
// What no item explains is clutter from here on; less may be an uneven background.
constexpr float kMinClutter = 6e5f;
constexpr std::size_t kRefined = 10;  // kinds that get the fine search

struct Rgbf {
  float r = 0.0f;
  float g = 0.0f;
  float b = 0.0f;
};

Rgbf operator-(const Rgb& color, const Rgbf& from) {
  return {static_cast<float>(color[0]) - from.r, static_cast<float>(color[1]) - from.g,
          static_cast<float>(color[2]) - from.b};
}

float dot(const Rgbf& a, const Rgbf& b) { return a.r * b.r + a.g * b.g + a.b * b.b; }

/// `tone` as it looks when half faded into its neighbour.
Rgbf mix(const Rgbf& tone, const Rgbf& neighbour) {
  constexpr float kOther = 0.5f * kTextureFade;
  constexpr float kOwn = 1.0f - kOther;
  return {kOwn * tone.r + kOther * neighbour.r, kOwn * tone.g + kOther * neighbour.g,
          kOwn * tone.b + kOther * neighbour.b};
}

/// One quadrant, as its difference from the fitted background.
struct Quadrant {
  std::array<Rgbf, kPixels> contrast;  // [kQuadrantSide, kQuadrantSide], row-major
  Rgbf background;                     // at the centre
  float energy = 0.0f;                 // summed squares of `contrast`, less the noise
  /// Both tones of each colour relative to the background.
  std::array<std::array<Rgbf, 2>, kColors> tones;
};

Quadrant quadrant_of(const Image& image, const BackgroundFit& fit, int position) {
  const int left = position % 2 * kQuadrantSide;
  const int top = position / 2 * kQuadrantSide;
  const auto background_at_pixel = [&fit](float x, float y) {
    return Rgbf{fit.channels[0].at(x, y), fit.channels[1].at(x, y), fit.channels[2].at(x, y)};
  };
  Quadrant quadrant;
  for (int i = 0; i < kPixels; ++i) {
    const int x = left + i % kQuadrantSide;
    const int y = top + i / kQuadrantSide;
    const std::uint8_t* rgb = image.pixel(x, y);
    Rgbf& contrast = quadrant.contrast[static_cast<std::size_t>(i)];
    contrast = Rgb{rgb[0], rgb[1], rgb[2]} -
               background_at_pixel(static_cast<float>(x), static_cast<float>(y));
    quadrant.energy += dot(contrast, contrast);
  }
  quadrant.energy = std::max(quadrant.energy - fit.noise * 3.0f * kPixels, 1.0f);
  constexpr float kMiddle = 0.5f * (kQuadrantSide - 1);
  quadrant.background =
      background_at_pixel(static_cast<float>(left) + kMiddle, static_cast<float>(top) + kMiddle);
  for (std::size_t color = 0; color < kColors; ++color) {
    const Paint tones = paint(static_cast<Color>(color));
    quadrant.tones[color] = {tones.first - quadrant.background, tones.second - quadrant.background};
  }
  return quadrant;
}

struct Hypothesis {
  float gain = 0.0f;  // squared error saved against an empty quadrant
  int kind = 0;
  int column = 0;
  int row = 0;
  Color color = Color::red;
};

/// The template's coverage-weighted sums of the picture's contrast, one for each tone.
std::array<Rgbf, 2> correlate(const Template& shape, const Quadrant& quadrant) {
  std::array<Rgbf, 2> sums;
  const auto add = [](Rgbf& sum, float weight, const Rgbf& value) {
    sum.r += weight * value.r;
    sum.g += weight * value.g;
    sum.b += weight * value.b;
  };
  constexpr float kScale = 1.0f / kSamples;
  for (const Template::Pixel& pixel : shape.pixels) {
    const Rgbf& contrast = quadrant.contrast[pixel.index];
    add(sums[0], kScale * pixel.first, contrast);
    add(sums[1], kScale * pixel.second, contrast);
  }
  return sums;
}

/// The squared error that a drawing saves: |picture|^2 - |picture - s * drawing|^2 at the best
/// contrast s, from the two inner products.
float error_saved(float picture_drawing, float drawing_drawing) {
  const float s = std::clamp(picture_drawing / drawing_drawing, kMinContrast, kMaxContrast);
  return s * (2.0f * picture_drawing - s * drawing_drawing);
}

/// Tries all colours on one template. The picture enters through two sums per template, so a colour
/// costs a handful of multiplications.
void try_template(const Quadrant& quadrant, int kind, int column, int row, Hypothesis& best) {
  const Template& shape = template_bank().at(kind, column, row);
  const std::array<Rgbf, 2> sums = correlate(shape, quadrant);
  const auto consider = [&](std::size_t color, const Rgbf& first, const Rgbf& second) {
    const float picture_drawing = dot(sums[0], first) + dot(sums[1], second);
    const float drawing_drawing = shape.first_first * dot(first, first) +
                                  2.0f * shape.first_second * dot(first, second) +
                                  shape.second_second * dot(second, second);
    const float gain = error_saved(picture_drawing, drawing_drawing);
    if (gain > best.gain) best = {gain, kind, column, row, static_cast<Color>(color)};
  };
  for (std::size_t color = 0; color < kColors; ++color) {
    const auto& [first, second] = quadrant.tones[color];
    consider(color, first, second);
    if (shape.item.texture == Texture::plain) continue;
    consider(color, mix(first, second), mix(second, first));
    // A model may start its stripes with the other tone; they are stripes all the same.
    consider(color, second, first);
    consider(color, mix(second, first), mix(first, second));
  }
}

/// Every second offset for every kind, then the neighbours of the best for the best kinds.
Hypothesis best_hypothesis(const Quadrant& quadrant) {
  constexpr int kOffsets = TemplateBank::kOffsets;
  std::vector<Hypothesis> by_kind(static_cast<std::size_t>(template_bank().kinds()));
  for (std::size_t kind = 0; kind < by_kind.size(); ++kind)
    for (int row = 0; row < kOffsets; row += 2)
      for (int column = 0; column < kOffsets; column += 2)
        try_template(quadrant, static_cast<int>(kind), column, row, by_kind[kind]);

  const auto last =
      by_kind.begin() + static_cast<std::ptrdiff_t>(std::min(kRefined, by_kind.size()));
  std::partial_sort(by_kind.begin(), last, by_kind.end(),
                    [](const Hypothesis& a, const Hypothesis& b) { return a.gain > b.gain; });
  Hypothesis best;
  for (auto coarse = by_kind.begin(); coarse != last && coarse->gain > 0.0f; ++coarse) {
    if (coarse->gain > best.gain) best = *coarse;
    const int end_row = std::min(coarse->row + 2, kOffsets);
    const int end_column = std::min(coarse->column + 2, kOffsets);
    for (int row = std::max(coarse->row - 1, 0); row < end_row; ++row)
      for (int column = std::max(coarse->column - 1, 0); column < end_column; ++column)
        try_template(quadrant, coarse->kind, column, row, best);
  }
  return best;
}

QuadrantReading read_quadrant(const Quadrant& quadrant, Position position) {
  QuadrantReading reading;
  if (quadrant.energy < kMinGain) return reading;
  const Hypothesis best = best_hypothesis(quadrant);
  reading.match = std::min(best.gain / quadrant.energy, 1.0f);
  if (best.gain >= kMinGain && reading.match >= kMinMatch) {
    reading.found = QuadrantReading::Found::item;
    reading.item = template_bank().at(best.kind, best.column, best.row).item;
    reading.item.color = best.color;
    reading.item.position = position;
  } else if (quadrant.energy >= kMinClutter) {
    reading.found = QuadrantReading::Found::unreadable;
  }
  return reading;
}

}  // namespace

SceneReading read_scene(const Image& image) {
  if (image.width != kSceneSide || image.height != kSceneSide)
    fail("read_scene", "a picture of 64x64", size_text(image));
  const BackgroundFit fit = fit_background(image);
  SceneReading reading;
  reading.background = fit.nearest;
  for (int position = 0; position < kPositions; ++position)
    reading.quadrants[static_cast<std::size_t>(position)] =
        read_quadrant(quadrant_of(image, fit, position), static_cast<Position>(position));
  return reading;
}

}  // namespace rtlynx
