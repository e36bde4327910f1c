// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/error.h"
#include "mini/scenes/palette.h"
#include "mini/scenes/scene.h"

namespace rtlynx {
namespace {

std::uint64_t fnv1a(std::span<const std::uint8_t> bytes, std::uint64_t hash) {
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

// A change of this value changes the data set that the shipped model was trained on.
TEST(Render, PixelsAreTheSameOnEveryPlatform) {
  Rng rng(1);
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < 200; ++i)
    hash = fnv1a(render(sample_scene(rng, i % 2 == 0 ? Split::train : Split::held_out)).rgb, hash);
  EXPECT_EQ(hash, 6268306550994362885u);
}

TEST(Render, LeavesTheMarginsOfQuadrantsEmpty) {
  constexpr int kHalf = kSceneSide / 2;
  const auto in_margin = [](int v) {
    return v % kHalf < kItemMargin || v % kHalf >= kHalf - kItemMargin;
  };
  Rng rng(2);
  for (int i = 0; i < 1000; ++i) {
    const Scene scene = sample_scene(rng, Split::train);
    const Image image = render(scene);
    for (int y = 0; y < kSceneSide; ++y) {
      const Rgb background = background_at(scene.background, scene.glow, 2 * y + 1, 2 * kSceneSide);
      for (int x = 0; x < kSceneSide; ++x) {
        if (!in_margin(x) && !in_margin(y)) continue;
        const std::uint8_t* rgb = image.pixel(x, y);
        ASSERT_EQ((Rgb{rgb[0], rgb[1], rgb[2]}), background) << "at " << x << ", " << y;
      }
    }
  }
}

/// The area in pixels of a red item, from how far each pixel is from black to red.
double covered_area(const Item& item) {
  const Scene scene = {.background = Background::black, .glow = 0, .items = {item}};
  const Image image = render(scene);
  const int background = background_at(Background::black, 0, 0, 1)[0];
  const int full = paint(item.color).first[0] - background;
  double area = 0.0;
  for (std::size_t i = 0; i < image.rgb.size(); i += 3)
    area += static_cast<double>(image.rgb[i] - background) / full;
  return area;
}

TEST(Render, CoversTheAreaOfTheGeometry) {
  const auto item = [](Shape shape, Size size, int count) {
    return Item{
        .shape = shape, .count = count, .size = size, .color = Color::red, .dx = 1, .dy = 3};
  };
  constexpr double kPi = 3.14159265358979;
  EXPECT_NEAR(covered_area(item(Shape::circle, Size::large, 1)), kPi * 11 * 11, 2.0);
  EXPECT_NEAR(covered_area(item(Shape::square, Size::large, 1)), 20 * 20, 2.0);
  EXPECT_NEAR(covered_area(item(Shape::triangle, Size::large, 1)), 24 * 21 / 2.0, 4.0);
  EXPECT_NEAR(covered_area(item(Shape::circle, Size::small, 3)), 3 * kPi * 5.25 * 5.25, 3.0);
  EXPECT_NEAR(covered_area(item(Shape::cross, Size::large, 1)), 2 * 23 * 2 - 4, 2.0);
}

TEST(Render, WordsAreWholePixels) {
  // Set pixels of L, Y, N and X, counted off the font; a blurred word would sum to a fraction.
  constexpr int kPixels = 11 + 10 + 18 + 13;
  EXPECT_NEAR(covered_area({.word = 0, .color = Color::red, .dx = 4, .dy = -8}), kPixels, 1e-9);
}

TEST(Render, LargerPicturesShowTheSame) {
  Rng rng(3);
  for (int i = 0; i < 50; ++i) {
    const Scene scene = sample_scene(rng, Split::train);
    const Image small = render(scene);
    const Image large = render(scene, 2 * kSceneSide);
    double difference = 0.0;
    for (int y = 0; y < kSceneSide; ++y)
      for (int x = 0; x < kSceneSide; ++x)
        for (int c = 0; c < 3; ++c) {
          const int sum = large.pixel(2 * x, 2 * y)[c] + large.pixel(2 * x + 1, 2 * y)[c] +
                          large.pixel(2 * x, 2 * y + 1)[c] + large.pixel(2 * x + 1, 2 * y + 1)[c];
          difference += std::abs(sum / 4.0 - small.pixel(x, y)[c]);
        }
    EXPECT_LT(difference / (3 * kSceneSide * kSceneSide), 1.0);
  }
}

TEST(Render, RejectsSidesAndBuffersThatCannotBe) {
  const Scene scene = {.items = {Item{}}};
  EXPECT_THROW(render(scene, 0), UsageError);
  EXPECT_THROW(render(scene, 65), UsageError);
  EXPECT_THROW(render(scene, 2048), UsageError);
  std::vector<std::uint8_t> buffer(64 * 64 * 3 - 1);
  EXPECT_THROW(render(scene, 64, buffer), Error);
  EXPECT_THROW(render(Scene{}), UsageError);
}

}  // namespace
}  // namespace rtlynx
