// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/leaves.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "mini/scenes/caption.h"
#include "mini/scenes/scene.h"
#include "mini/scenes/training_scene.h"

namespace rtlynx {
namespace {

std::uint64_t fnv1a(const std::vector<std::uint8_t>& bytes, std::uint64_t hash) {
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

Scene with_leaves(Scene scene, std::uint64_t seed) {
  scene.leaves = seed;
  return scene;
}

// A change of this value changes the data set that tools/train_wide.py trains on.
TEST(Leaves, PixelsAreTheSameOnEveryPlatform) {
  Rng rng(1);
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::uint64_t i = 0; i < 100; ++i)
    hash = fnv1a(render(with_leaves(sample_scene(rng, Split::train), i)).rgb, hash);
  EXPECT_EQ(hash, 2261003172299637289u);
}

TEST(Leaves, SeedsDrawOtherLeaves) {
  const Scene scene = {.items = {Item{}}};
  EXPECT_EQ(render(with_leaves(scene, 1)).rgb, render(with_leaves(scene, 1)).rgb);
  EXPECT_NE(render(with_leaves(scene, 1)).rgb, render(with_leaves(scene, 2)).rgb);
}

// What an item covers, no leaf shows through.
TEST(Leaves, LieBehindTheItems) {
  const Scene scene = {.items = {Item{.shape = Shape::square, .color = Color::red}}};
  const Image plain = render(scene), leaves = render(with_leaves(scene, 5));
  constexpr int kCentre = kSceneSide / 4, kHalf = 9;
  for (int y = kCentre - kHalf; y < kCentre + kHalf; ++y)
    for (int x = kCentre - kHalf; x < kCentre + kHalf; ++x)
      for (int c = 0; c < 3; ++c) ASSERT_EQ(plain.pixel(x, y)[c], leaves.pixel(x, y)[c]);
  EXPECT_NE(plain.rgb, leaves.rgb);
}

// Neighbouring pixels of a plain background hardly differ.
TEST(Leaves, HaveFineDetailEverywhere) {
  const Scene scene = {.items = {Item{}}};
  double difference = 0;
  constexpr int kPictures = 20;
  for (std::uint64_t seed = 0; seed < kPictures; ++seed) {
    const Image image = render(with_leaves(scene, seed));
    for (int y = kSceneSide / 2; y < kSceneSide; ++y)
      for (int x = 1; x < kSceneSide; ++x)
        difference += std::abs(image.pixel(x, y)[0] - image.pixel(x - 1, y)[0]);
  }
  EXPECT_GT(difference / (kPictures * (kSceneSide - 1) * (kSceneSide / 2)), 8.0);
}

TEST(Leaves, LargerPicturesShowTheSame) {
  std::vector<std::uint8_t> small(64 * 64 * 3), large(128 * 128 * 3);
  draw_leaves(3, 64, small);
  draw_leaves(3, 128, large);
  double difference = 0;
  for (std::size_t y = 0; y < 64; ++y)
    for (std::size_t x = 0; x < 64 * 3; ++x)
      difference += std::abs(small[y * 192 + x] - large[2 * y * 384 + x / 3 * 6 + x % 3]);
  EXPECT_LT(difference / static_cast<double>(small.size()), 20.0);
}

TEST(TrainingScene, LeavesChangeThePictureAndNotWhatItShows) {
  constexpr std::uint64_t kIndex = 3;
  std::vector<std::uint8_t> plain(kSceneSide * kSceneSide * 3), leaves(plain.size());
  const TrainingScenes scenes{.seed = 1, .caption_dropout = 0};
  TrainingScenes with = scenes;
  with.leaves = true;
  const auto words = draw_training_scene(scenes, kIndex, scene_vocabulary(), plain);
  EXPECT_FALSE(words.empty());
  EXPECT_EQ(words, draw_training_scene(scenes, kIndex, scene_vocabulary(), plain));
  EXPECT_EQ(words, draw_training_scene(with, kIndex, scene_vocabulary(), leaves));
  EXPECT_NE(plain, leaves);
  with.caption_dropout = 1;
  EXPECT_TRUE(draw_training_scene(with, kIndex, scene_vocabulary(), leaves).empty());
}

}  // namespace
}  // namespace rtlynx
