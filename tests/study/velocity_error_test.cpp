// SPDX-License-Identifier: Apache-2.0
#include "study/velocity_error.h"

#include <gtest/gtest.h>

#include <array>

#include "mini/small_pipeline.h"
#include "models/recipe.h"

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

// Of a whole batch of pictures, and of them one by one in another order.
TEST_F(VelocityErrors, EveryPromptIsRecordedAtOneStepInAStride) {
  for (const std::size_t batch : {3U, 1U}) {
    const DenseTrajectory all = record_trajectory(pipeline_, request_, static_cast<int>(batch));
    TrajectoryRecorder recorder(/*prompts=*/3, request_.steps, /*stride=*/2);
    for (std::size_t i = all.records.size(); i-- > 0;) {
      const auto& record = all.records[i];
      recorder.add({.first = record.first, .pictures = record.prompts}, record.step, record.inputs,
                   record.velocity);
    }
    const DenseTrajectory some = recorder.take();
    std::size_t prompts = 0;
    for (const auto& record : some.records) {
      for (std::size_t i = 0; i < record.prompts; ++i, ++prompts) {
        const std::size_t prompt = record.first + i * record.apart;
        EXPECT_EQ((prompt + static_cast<std::size_t>(record.step)) % 2, 0U);
        const auto row = static_cast<std::int64_t>(i), rows = record.velocity.size(0) / 2;
        const auto& source =
            all.records[prompt / batch * 2 + static_cast<std::size_t>(record.step)];
        const auto of_batch = static_cast<std::int64_t>(prompt % batch);
        const auto of_branch = static_cast<std::int64_t>(batch);
        for (const std::int64_t branch : {0, 1}) {
          const std::int64_t kept = branch * rows + row, drawn = branch * of_branch + of_batch;
          EXPECT_TRUE(record.velocity[kept].equal(source.velocity[drawn]));
          EXPECT_TRUE(record.inputs.hidden_states[kept].equal(source.inputs.hidden_states[drawn]));
          EXPECT_TRUE(record.inputs.encoder_hidden_states[kept].equal(
              source.inputs.encoder_hidden_states[drawn]));
        }
      }
    }
    EXPECT_EQ(prompts, 3U);  // one of two steps each
    EXPECT_EQ(recorder.picture_steps(), 3);
    EXPECT_LT(measure_velocity_error(pipeline_, some).relative(), 1e-5);
  }
}

TEST_F(VelocityErrors, PromptsBeyondThoseAskedForAreNotRecorded) {
  TrajectoryRecorder recorder(/*prompts=*/2, request_.steps);
  const DenseTrajectory all = record_trajectory(pipeline_, request_, /*batch=*/3);
  for (const auto& record : all.records) {
    recorder.add({.first = 0, .pictures = 3}, record.step, record.inputs, record.velocity);
  }
  const DenseTrajectory some = recorder.take();
  ASSERT_EQ(some.records.size(), 2U);
  EXPECT_EQ(some.records[0].prompts, 2U);
  EXPECT_TRUE(some.records[0].velocity[3].equal(all.records[0].velocity[4]));
}

TEST_F(VelocityErrors, OfDenseHoldTheWholeThatWasRecorded) {
  const VelocityError none = no_error(trajectory_);
  EXPECT_EQ(none.relative(), 0);
  const VelocityError measured = measure_velocity_error(pipeline_, trajectory_);
  EXPECT_EQ(none.by_prompt[2].whole, measured.by_prompt[2].whole);
  EXPECT_EQ(none.by_step[1].whole, measured.by_step[1].whole);
}

}  // namespace
}  // namespace rtlynx
