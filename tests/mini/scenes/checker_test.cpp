// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/checker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/error.h"
#include "mini/scenes/caption.h"

namespace rtlynx {
namespace {

using Found = QuadrantReading::Found;
using Distortion = std::function<Image(const Image&, Rng&)>;

constexpr int kScenes = 500;
constexpr int kDistortedScenes = 200;

std::uint8_t to_byte(double value) {
  return static_cast<std::uint8_t>(std::clamp(std::lround(value), 0l, 255l));
}

/// A sum of twelve uniform values has variance one and looks normal enough.
double normal(Rng& rng) {
  double sum = -6.0;
  for (int i = 0; i < 12; ++i) sum += rng.uniform();
  return sum;
}

Image add_noise(const Image& image, double sigma, Rng& rng) {
  Image out = image;
  for (std::uint8_t& value : out.rgb) value = to_byte(value + sigma * normal(rng));
  return out;
}

Image blur(const Image& image, double sigma) {
  Image out = image;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      for (int c = 0; c < 3; ++c) {
        double sum = 0.0, weights = 0.0;
        for (int j = std::max(y - 2, 0); j <= std::min(y + 2, image.height - 1); ++j)
          for (int i = std::max(x - 2, 0); i <= std::min(x + 2, image.width - 1); ++i) {
            const int square = (i - x) * (i - x) + (j - y) * (j - y);
            const double weight = std::exp(-square / (2.0 * sigma * sigma));
            sum += weight * image.pixel(i, j)[c];
            weights += weight;
          }
        out.pixel(x, y)[c] = to_byte(sum / weights);
      }
  return out;
}

/// Scales and shifts each channel by itself.
Image shift_colors(const Image& image, Rng& rng) {
  Image out = image;
  for (std::size_t c = 0; c < 3; ++c) {
    const double scale = 0.88 + 0.24 * rng.uniform();
    const double shift = 16.0 * rng.uniform() - 8.0;
    for (std::size_t i = c; i < out.rgb.size(); i += 3)
      out.rgb[i] = to_byte(scale * out.rgb[i] + shift);
  }
  return out;
}

CaptionScore score_rendered(std::uint64_t seed, Split split, int scenes,
                            const Distortion& distort) {
  Rng rng(seed);
  CaptionScore total;
  for (int i = 0; i < scenes; ++i) {
    const Scene scene = sample_scene(rng, split);
    total += score(scene, read_scene(distort(render(scene), rng)));
  }
  return total;
}

void expect_all_at_least(const CaptionScore& total, double rate) {
  EXPECT_GE(total.position.rate(), rate);
  EXPECT_GE(total.shape.rate(), rate);
  EXPECT_GE(total.word.rate(), rate);
  EXPECT_GE(total.color.rate(), rate);
  EXPECT_GE(total.count.rate(), rate);
  EXPECT_GE(total.size.rate(), rate);
  EXPECT_GE(total.texture.rate(), rate);
  EXPECT_GE(total.background.rate(), rate);
  EXPECT_GE(total.shape_color_position.rate(), rate);
  EXPECT_GE(total.everything.rate(), rate);
}

TEST(Checker, ReadsWhatWasDrawn) {
  const auto nothing = [](const Image& image, Rng&) { return image; };
  expect_all_at_least(score_rendered(1, Split::held_out, kScenes, nothing), 0.99);
  expect_all_at_least(score_rendered(2, Split::train, kScenes, nothing), 0.99);
}

TEST(Checker, ReadsThroughNoise) {
  expect_all_at_least(
      score_rendered(3, Split::held_out, kDistortedScenes,
                     [](const Image& image, Rng& rng) { return add_noise(image, 8.0, rng); }),
      0.99);
}

TEST(Checker, ReadsThroughBlurAndNoise) {
  expect_all_at_least(score_rendered(4, Split::held_out, kDistortedScenes,
                                     [](const Image& image, Rng& rng) {
                                       return add_noise(blur(image, 0.8), 8.0, rng);
                                     }),
                      0.97);
}

TEST(Checker, ReadsThroughWrongColors) {
  expect_all_at_least(score_rendered(5, Split::held_out, kDistortedScenes, shift_colors), 0.97);
}

CaptionScore score_shuffled(std::uint64_t seed, Split split) {
  Rng rng(seed);
  std::vector<Scene> scenes;
  std::vector<SceneReading> readings;
  for (int i = 0; i < kScenes; ++i) {
    scenes.push_back(sample_scene(rng, split));
    readings.push_back(read_scene(render(scenes.back())));
  }
  CaptionScore total;
  for (std::size_t i = 0; i < scenes.size(); ++i)
    total += score(scenes[i], readings[(i + 1) % readings.size()]);
  return total;
}

// Scored against the caption of another scene, a picture must do no better than chance. Something
// lies at a given position in half of all scenes; it is a shape with probability 0.8, then one of
// five, and has one of eight colours. So chance is 0.5 for a position, 0.08 for a shape, 0.06 for a
// colour, 0.01 for a word, 1/3 for a background. Two scenes take the same positions with
// probability 2/27 and then agree in shape and colour with at most 1/50: 0.0015 in all. The bounds
// leave room for 500 scenes.
TEST(Checker, IsAtChanceOnShuffledCaptions) {
  const CaptionScore total = score_shuffled(6, Split::train);
  EXPECT_LT(total.position.rate(), 0.57);
  EXPECT_LT(total.shape.rate(), 0.13);
  EXPECT_LT(total.color.rate(), 0.10);
  EXPECT_LT(total.word.rate(), 0.05);
  EXPECT_LT(total.background.rate(), 0.42);
  EXPECT_LT(total.shape_color_position.rate(), 0.01);
  EXPECT_LT(total.everything.rate(), 0.01);
}

// With sixteen triples to choose from, scenes of one item agree more often: (1/3)^2 / 16 = 0.007.
TEST(Checker, IsAtChanceOnShuffledHeldOutCaptions) {
  const CaptionScore total = score_shuffled(7, Split::held_out);
  EXPECT_LT(total.shape_color_position.rate(), 0.025);
  EXPECT_LT(total.everything.rate(), 0.01);
}

Scene two_items() {
  return {.background = Background::navy,
          .items = {{.shape = Shape::ring, .color = Color::cyan, .position = Position::top_right},
                    {.word = 3, .color = Color::red, .position = Position::bottom_left}}};
}

TEST(Checker, ReportsEachQuadrant) {
  const SceneReading reading = read_scene(render(two_items()));
  EXPECT_EQ(reading.background, Background::navy);
  EXPECT_EQ(reading.at(Position::top_left).found, Found::empty);
  EXPECT_EQ(reading.at(Position::bottom_right).found, Found::empty);
  EXPECT_EQ(reading.at(Position::top_right).item, two_items().items[0]);
  EXPECT_EQ(reading.at(Position::bottom_left).item, two_items().items[1]);
  EXPECT_GT(reading.at(Position::top_right).match, 0.95f);
}

TEST(Checker, AnExtraItemFailsThePictureButNoAttribute) {
  Scene fewer = two_items();
  fewer.items.pop_back();
  const CaptionScore result = score(fewer, read_scene(render(two_items())));
  EXPECT_EQ(result.shape.right, 1);
  EXPECT_EQ(result.color.right, 1);
  EXPECT_EQ(result.shape_color_position.right, 0);
}

TEST(Checker, AMissingItemIsWrongInEveryAttribute) {
  Scene more = two_items();
  more.items.push_back({.shape = Shape::square, .position = Position::top_left});
  const CaptionScore result = score(more, read_scene(render(two_items())));
  for (const Tally& tally : {result.shape, result.count, result.size}) {
    EXPECT_EQ(tally.right, 1);
    EXPECT_EQ(tally.total, 2);
  }
  EXPECT_EQ(result.texture.right, 0);
  EXPECT_EQ(result.texture.total, 1);  // a ring cannot carry one
  EXPECT_EQ(result.position.right, 2);
  EXPECT_EQ(result.position.total, 3);
  EXPECT_EQ(result.shape_color_position.right, 0);
}

TEST(Checker, AWrongCountFailsEverythingButNotShapeColorPosition) {
  Scene drawn = two_items();
  drawn.items[0].size = Size::small;
  drawn.items[0].count = 2;
  Scene wanted = drawn;
  wanted.items[0].count = 3;
  const CaptionScore result = score(wanted, read_scene(render(drawn)));
  EXPECT_EQ(result.count.right, 0);
  EXPECT_EQ(result.shape_color_position.right, 1);
  EXPECT_EQ(result.everything.right, 0);
}

TEST(Checker, FindsNothingInPlainPictures) {
  for (const std::uint8_t value : {0, 60, 128, 255}) {
    Image image(kSceneSide, kSceneSide);
    image.rgb.assign(image.rgb.size(), value);
    Rng rng(7);
    for (const QuadrantReading& quadrant : read_scene(add_noise(image, 8.0, rng)).quadrants)
      EXPECT_EQ(quadrant.found, Found::empty);
  }
}

TEST(Checker, ForgivesAnUnevenBackground) {
  Image image = render(two_items());
  for (int y = 0; y < kSceneSide; ++y)
    for (int x = 0; x < kSceneSide; ++x)
      for (int c = 0; c < 3; ++c)
        image.pixel(x, y)[c] = to_byte(image.pixel(x, y)[c] + 8.0 * std::sin(0.3 * x + 0.2 * y));
  EXPECT_EQ(score(two_items(), read_scene(image)).everything.right, 1);
}

TEST(Checker, CallsStaticUnreadable) {
  Rng rng(8);
  Image image = render(two_items());
  for (int y = 2; y < 30; ++y)
    for (int x = 2; x < 30; ++x)
      for (int c = 0; c < 3; ++c)
        image.pixel(x, y)[c] = static_cast<std::uint8_t>(rng.below(2) * 255);
  const SceneReading reading = read_scene(image);
  EXPECT_EQ(reading.at(Position::top_left).found, Found::unreadable);
  EXPECT_EQ(score(two_items(), reading).shape_color_position.right, 0);
}

TEST(Checker, RejectsOtherSizes) { EXPECT_THROW(read_scene(Image(32, 32)), Error); }

}  // namespace
}  // namespace rtlynx
