// SPDX-License-Identifier: Apache-2.0
#include "mini/caption_accuracy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "mini/lynx_mini.h"
#include "mini/scenes/caption.h"
#include "mini/small_pipeline.h"

namespace rtlynx {
namespace {

TEST(CaptionSuite, IsFixedAndHeldOut) {
  const CaptionSuite suite = make_caption_suite(50, 9);
  ASSERT_EQ(suite.captions.size(), 50U);
  EXPECT_EQ(suite.captions, make_caption_suite(50, 9).captions);
  EXPECT_NE(suite.captions, make_caption_suite(50, 10).captions);
  for (std::size_t i = 0; i < suite.scenes.size(); ++i) {
    const auto& items = suite.scenes[i].items;
    EXPECT_TRUE(std::any_of(items.begin(), items.end(),
                            [](const Item& item) { return is_held_out(item); }));
    EXPECT_EQ(suite.captions[i], caption(suite.scenes[i]));
  }
}

TEST(CaptionSuite, LeavesLieBehindTheSameItems) {
  const CaptionSuite plain = make_caption_suite(5, 9), leaves = make_caption_suite(5, 9, true);
  EXPECT_EQ(plain.captions, leaves.captions);
  EXPECT_FALSE(plain.scenes[0].leaves);
  EXPECT_NE(leaves.scenes[0].leaves, leaves.scenes[1].leaves);
}

// An untrained model's final projection is zero: it leaves the noise as it is.
TEST(CaptionAccuracy, NoiseScoresNothing) {
  Pipeline pipeline = make_lynx_mini({.heads = 1, .double_blocks = 0, .single_blocks = 1}, 1);
  const CaptionSuite suite = make_caption_suite(10, 9);
  int finished = 0;
  const AccuracyRun run = measure_caption_accuracy(
      pipeline, suite, {.prompts = {}, .seeds = {}, .steps = 1}, 4, [&](int n) { finished = n; });
  EXPECT_EQ(finished, 10);
  EXPECT_EQ(run.images.size(), 10U);
  EXPECT_EQ(run.scores.size(), 10U);
  EXPECT_EQ(run.scores[3].shape_color_position.total, 1);
  EXPECT_EQ(run.score.shape_color_position.total, 10);
  EXPECT_EQ(run.score.shape_color_position.right, 0);
  EXPECT_EQ(to_json(run.score)["shape_color_position"], 0.0);
}

// On the CPU, where several are drawn at a time.
TEST(CaptionAccuracy, PicturesAreThoseThatGenerateDraws) {
  Pipeline pipeline = test::small_pipeline();
  const CaptionSuite suite = make_caption_suite(3, 9);
  std::map<std::size_t, int> steps;  // by picture
  const AccuracyRun run = measure_caption_accuracy(
      pipeline, suite, {.prompts = {}, .seeds = {}, .steps = 2}, 4, {},
      [&](const DrawnBatch& batch, int step, const FluxInputs&, const torch::Tensor& velocity) {
        EXPECT_EQ(batch.pictures, 1U);
        EXPECT_EQ(velocity.size(0), 2);
        EXPECT_EQ(steps[batch.first]++, step);
      });
  EXPECT_EQ(steps, (std::map<std::size_t, int>{{0, 2}, {1, 2}, {2, 2}}));
  ASSERT_EQ(run.images.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto alone =
        pipeline.generate({.prompts = {suite.captions[i]}, .seeds = {i}, .steps = 2});
    EXPECT_EQ(run.images[i].rgb, alone.front().rgb) << i;
  }
}

}  // namespace
}  // namespace rtlynx
