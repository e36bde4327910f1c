// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/caption.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/error.h"

namespace rtlynx {
namespace {

Scene example() {
  return {.background = Background::navy,
          .items = {{.shape = Shape::circle,
                     .count = 2,
                     .size = Size::small,
                     .texture = Texture::striped,
                     .color = Color::red,
                     .position = Position::top_left},
                    {.word = 1, .color = Color::green, .position = Position::bottom_right}}};
}

/// What a caption can tell about a scene.
Scene without_jitter(Scene scene) {
  scene.glow = 0;
  for (Item& item : scene.items) item.dx = item.dy = 0;
  return scene;
}

TEST(Caption, SaysEverything) {
  EXPECT_EQ(caption(example()),
            "two small striped red circles top left, the word cat in green bottom right on navy");
}

TEST(Caption, PluralOfCross) {
  const Scene scene = {.items = {{.shape = Shape::cross, .count = 3, .size = Size::small}}};
  EXPECT_EQ(caption(scene), "three small red crosses top left on black");
}

TEST(Caption, IsTheSameForASeedOnEveryPlatform) {
  Rng rng(1);
  EXPECT_EQ(caption(sample_scene(rng, Split::train)),
            "two small yellow crosses top left, small yellow square bottom left on black");
  EXPECT_EQ(caption(sample_scene(rng, Split::held_out)),
            "small striped purple square bottom left, two small yellow triangles bottom right on "
            "black");
}

TEST(Caption, DropoutOfOneLeavesTheBareItems) {
  Rng rng(1);
  const CaptionDropout all = {.size = 1, .texture = 1, .position = 1, .background = 1};
  EXPECT_EQ(caption(example(), rng, all), "two red circles, the word cat in green");
}

TEST(Caption, DropoutOfZeroSaysEverything) {
  Rng rng(1);
  const CaptionDropout none = {.size = 0, .texture = 0, .position = 0, .background = 0};
  EXPECT_EQ(caption(example(), rng, none), caption(example()));
}

TEST(Caption, EncodesWithinTheLimitAndTellsScenesApart) {
  Rng rng(2);
  std::map<std::vector<int>, Scene> seen;
  std::size_t longest = 0;
  for (int i = 0; i < 20000; ++i) {
    const Scene scene = sample_scene(rng, i % 2 == 0 ? Split::train : Split::held_out);
    const std::vector<int> tokens = scene_vocabulary().encode(caption(scene));
    longest = std::max(longest, tokens.size());
    const auto [place, is_new] = seen.emplace(tokens, without_jitter(scene));
    ASSERT_TRUE(is_new || place->second == without_jitter(scene)) << caption(scene);
    ASSERT_NO_THROW(scene_vocabulary().encode(caption(scene, rng, CaptionDropout{})));
  }
  EXPECT_EQ(longest, kMaxTokens);
}

TEST(SceneVocabulary, EveryWordOccursInSomeCaption) {
  Rng rng(3);
  std::vector<bool> used(static_cast<std::size_t>(scene_vocabulary().size()));
  used[Vocabulary::kPadding] = true;
  for (int i = 0; i < 5000; ++i)
    for (const int token : scene_vocabulary().encode(caption(sample_scene(rng, Split::train))))
      used[static_cast<std::size_t>(token)] = true;
  for (std::size_t i = 0; i < used.size(); ++i)
    EXPECT_TRUE(used[i]) << scene_vocabulary().words()[i];
}

TEST(SceneVocabulary, TakesEverydayWording) {
  const Vocabulary& vocabulary = scene_vocabulary();
  const std::vector<int> plain = vocabulary.encode("large red circle top left, two white cross");
  EXPECT_EQ(vocabulary.encode("A big RED disc at the upper-left and 2 white crosses."), plain);
}

}  // namespace
}  // namespace rtlynx
