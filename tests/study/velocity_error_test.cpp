// SPDX-License-Identifier: Apache-2.0
#include "study/velocity_error.h"

#include <gtest/gtest.h>

#include <array>

#include "models/recipe.h"
#include "pipeline/small_pipeline.h"

namespace rtlynx {
namespace {

class VelocityErrors : public testing::Test {
 protected:
  Pipeline pipeline_ = test::small_pipeline();
  GenerateRequest request_{.prompts = {"a red circle", "a blue ring", "the word cat"},
                           .seeds = {1, 2, 3},
                           .steps = 2,
                           .guidance = 3.0,
                           .width = 16,
                           .height = 16};
  DenseTrajectory trajectory_ = record_trajectory(pipeline_, request_, /*batch=*/2);
};

TEST_F(VelocityErrors, TheTrajectoryIsTheWholeRun) {
  EXPECT_EQ(trajectory_.prompts, 3U);
  EXPECT_EQ(trajectory_.steps, 2);
  ASSERT_EQ(trajectory_.records.size(), 4U);  // two batches of two steps
  EXPECT_EQ(trajectory_.records[2].first, 2U);
  EXPECT_EQ(trajectory_.records[2].prompts, 1U);
  EXPECT_EQ(trajectory_.records[3].step, 1);
}

TEST_F(VelocityErrors, DenseHasNone) {
  const VelocityError error = measure_velocity_error(pipeline_, trajectory_);
  EXPECT_EQ(error.relative(), 0.0);
  EXPECT_GT(error.by_prompt[0].whole, 0);
}

// The definition, over all that was recorded at once.
TEST_F(VelocityErrors, IsTheRelativeNormOfTheDifference) {
  apply_recipe(*pipeline_.transformer, paper_layers(pipeline_.transformer->groups()),
               LinearMode::naive);
  std::size_t finished = 0;
  const VelocityError error =
      measure_velocity_error(pipeline_, trajectory_, [&](std::size_t n) { finished = n; });
  EXPECT_EQ(finished, 4U);
  double wrong = 0, whole = 0, second_prompt = 0, last_step = 0, last_step_whole = 0;
  const torch::InferenceMode inference;
  for (const auto& record : trajectory_.records) {
    const torch::Tensor difference = pipeline_.transformer(record.inputs) - record.velocity;
    wrong += difference.square().sum().item<double>();
    whole += record.velocity.square().sum().item<double>();
    if (record.first == 0) {  // batch [without, without, with, with] of prompts 0 and 1
      second_prompt += (difference[1].square().sum() + difference[3].square().sum()).item<double>();
    }
    if (record.step == 1) {
      last_step += difference.square().sum().item<double>();
      last_step_whole += record.velocity.square().sum().item<double>();
    }
  }
  EXPECT_NEAR(error.relative(), std::sqrt(wrong / whole), 1e-6);
  EXPECT_NEAR(error.by_prompt[1].wrong, second_prompt, 1e-5 * second_prompt);
  EXPECT_NEAR(error.by_step[1].relative(), std::sqrt(last_step / last_step_whole), 1e-6);
  EXPECT_GT(error.relative(), 0.01);
}

TEST_F(VelocityErrors, OfDrawnPromptsCountsRepetitions) {
  apply_recipe(*pipeline_.transformer, paper_layers(pipeline_.transformer->groups()),
               LinearMode::naive);
  const VelocityError error = measure_velocity_error(pipeline_, trajectory_);
  const std::array<std::size_t, 3> all = {2, 0, 1}, twice = {1, 1, 1};
  EXPECT_NEAR(error.relative(all), error.relative(), 1e-12);
  EXPECT_NEAR(error.relative(twice), error.by_prompt[1].relative(), 1e-12);
}

}  // namespace
}  // namespace rtlynx
