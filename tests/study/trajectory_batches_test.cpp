// SPDX-License-Identifier: Apache-2.0
#include "study/trajectory_batches.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "mini/small_pipeline.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kSize = 3;

class Trajectories : public testing::Test {
 protected:
  Trajectories() { pipeline_.trained_size = 16; }
  TrajectoryBatches batches() const { return {run_, kSize}; }

  // 2 prompts, 3 steps and 2 branches: 12 items, 4 steps of training a drawing.
  CalibrationRun run_{.prompts = 2, .seed = 5, .steps = 3, .guidance = 2.0, .batch = 1};
  Pipeline pipeline_ = test::small_pipeline();
};

TEST_F(Trajectories, HoldWhatTheDenseModelSays) {
  const torch::NoGradGuard no_grad;
  TrajectoryBatches source = batches();
  for (std::int64_t step = 0; step < 6; ++step) {
    const VelocityBatch batch = source.at(pipeline_, step);
    ASSERT_EQ(batch.velocity.size(0), kSize);
    const torch::Tensor said = pipeline_.transformer(batch.inputs);
    EXPECT_TRUE(said.allclose(batch.velocity, 1e-4, 1e-5)) << step;
  }
}

TEST_F(Trajectories, DependOnTheStepAloneAndChangeWithTheDrawing) {
  TrajectoryBatches forward = batches(), directly = batches();
  std::set<double> seen;
  for (std::int64_t step = 0; step < 8; ++step) {
    const VelocityBatch batch = forward.at(pipeline_, step);
    for (std::int64_t i = 0; i < kSize; ++i) {
      seen.insert(batch.inputs.hidden_states[i].sum().item<double>());
    }
    if (step != 5) continue;
    const VelocityBatch again = directly.at(pipeline_, step);
    EXPECT_TRUE(again.inputs.hidden_states.equal(batch.inputs.hidden_states));
    EXPECT_TRUE(again.inputs.encoder_hidden_states.equal(batch.inputs.encoder_hidden_states));
    EXPECT_TRUE(again.velocity.equal(batch.velocity));
  }
  EXPECT_GT(seen.size(), 6U);  // one drawing has 6 different latents, each for both branches
}

TEST_F(Trajectories, TakeAllTimesAndBothBranches) {
  TrajectoryBatches source = batches();
  std::set<float> times, texts;
  for (std::int64_t step = 0; step < 4; ++step) {
    const VelocityBatch batch = source.at(pipeline_, step);
    for (std::int64_t i = 0; i < kSize; ++i) {
      times.insert(batch.inputs.timestep[i].item<float>());
      texts.insert(batch.inputs.pooled_projections[i].sum().item<float>());
    }
  }
  EXPECT_EQ(times.size(), 3U);
  EXPECT_EQ(texts.size(), 3U);  // two captions and none
}

TEST_F(Trajectories, ServeGradients) {
  const VelocityBatch batch = batches().at(pipeline_, 0);
  pipeline_.transformer(batch.inputs).square().sum().backward();
  EXPECT_TRUE(named_linears(*pipeline_.transformer).front().linear->weight.grad().defined());
}

TEST_F(Trajectories, NeedPrompts) {
  run_.prompts = 0;
  EXPECT_THROW(batches(), UsageError);
}

}  // namespace
}  // namespace rtlynx
