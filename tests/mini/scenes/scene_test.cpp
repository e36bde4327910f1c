// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/scene.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr int kScenes = 20000;

template <typename Visit>
void for_each_scene(std::uint64_t seed, Split split, Visit visit) {
  Rng rng(seed);
  for (int i = 0; i < kScenes; ++i) visit(sample_scene(rng, split));
}

TEST(Split, HoldsOutATenthOfTheTriples) {
  int held_out = 0;
  for (int shape = 0; shape < kShapes; ++shape)
    for (int color = 0; color < kColors; ++color)
      for (int position = 0; position < kPositions; ++position)
        held_out += is_held_out(static_cast<Shape>(shape), static_cast<Color>(color),
                                static_cast<Position>(position));
  EXPECT_EQ(held_out, 16);
}

TEST(Split, TrainNeverDrawsAHeldOutTriple) {
  for_each_scene(1, Split::train, [](const Scene& scene) {
    ASSERT_TRUE(std::none_of(scene.items.begin(), scene.items.end(),
                             [](const Item& item) { return is_held_out(item); }));
  });
}

TEST(Split, HeldOutAlwaysHasOne) {
  std::set<std::size_t> places;
  for_each_scene(2, Split::held_out, [&places](const Scene& scene) {
    const auto found = std::find_if(scene.items.begin(), scene.items.end(),
                                    [](const Item& item) { return is_held_out(item); });
    ASSERT_NE(found, scene.items.end());
    places.insert(static_cast<std::size_t>(found - scene.items.begin()));
  });
  EXPECT_EQ(places.size(), kMaxItems) << "the held-out item must not have a fixed place";
}

TEST(Split, TrainStillHasEveryPairOfAttributes) {
  std::set<std::tuple<Shape, Color>> shape_color;
  std::set<std::tuple<Shape, Position>> shape_position;
  std::set<std::tuple<Color, Position>> color_position;
  std::set<std::tuple<Shape, Size, int, Texture>> looks;
  std::set<std::tuple<int, Color>> word_color;
  std::set<std::tuple<int, Position>> word_position;
  std::set<std::tuple<Background, std::size_t>> background_items;
  for_each_scene(3, Split::train, [&](const Scene& scene) {
    background_items.insert({scene.background, scene.items.size()});
    for (const Item& item : scene.items) {
      if (item.is_word()) {
        word_color.insert({item.word, item.color});
        word_position.insert({item.word, item.position});
        continue;
      }
      shape_color.insert({item.shape, item.color});
      shape_position.insert({item.shape, item.position});
      color_position.insert({item.color, item.position});
      looks.insert({item.shape, item.size, item.count, item.texture});
    }
  });
  EXPECT_EQ(shape_color.size(), kShapes * kColors);
  EXPECT_EQ(shape_position.size(), kShapes * kPositions);
  EXPECT_EQ(color_position.size(), kColors * kPositions);
  EXPECT_EQ(word_color.size(), kWords.size() * kColors);
  EXPECT_EQ(word_position.size(), kWords.size() * kPositions);
  EXPECT_EQ(background_items.size(), kBackgrounds * kMaxItems);
  // Large alone or small in ones, twos and threes; three textures on three shapes, none on two.
  EXPECT_EQ(looks.size(), 4u * (3 * 3 + 2));
}

TEST(SampleScene, KeepsTheRules) {
  for (const Split split : {Split::train, Split::held_out})
    for_each_scene(4, split, [](const Scene& scene) { ASSERT_NO_THROW(validate(scene)); });
}

TEST(SampleScene, DrawsAFifthOfTheItemsAsWords) {
  int words = 0, items = 0;
  for_each_scene(5, Split::train, [&](const Scene& scene) {
    for (const Item& item : scene.items) words += item.is_word();
    items += static_cast<int>(scene.items.size());
  });
  EXPECT_NEAR(static_cast<double>(words) / items, 0.2, 0.01);
  EXPECT_NEAR(static_cast<double>(items) / kScenes, 2.0, 0.03);
}

TEST(Validate, NamesTheBrokenRule) {
  const auto rejects = [](Scene scene) { EXPECT_THROW(validate(scene), UsageError); };
  rejects({});
  rejects({.items = {Item{.count = 2, .size = Size::large}}});
  rejects({.items = {Item{.count = 4, .size = Size::small}}});
  rejects({.items = {Item{.shape = Shape::ring, .texture = Texture::striped}}});
  rejects({.items = {Item{.word = static_cast<int>(kWords.size())}}});
  rejects({.items = {Item{.dx = kShapeJitter + 1}}});
  rejects({.items = {Item{.word = 0, .dy = 2}}});
  rejects({.items = {Item{}, Item{.shape = Shape::square}}});
}

}  // namespace
}  // namespace rtlynx
