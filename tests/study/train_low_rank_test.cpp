// SPDX-License-Identifier: Apache-2.0
#include "study/train_low_rank.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kRank = 8;

using Way = std::pair<LowRankObjective, LowRankInputs>;

class TrainLowRank : public testing::TestWithParam<Way> {
 protected:
  TrainLowRankOptions options() const {
    return {.objective = GetParam().first,
            .inputs = GetParam().second,
            .run = {.prompts = 1, .steps = 2, .batch = 1},
            .seed = 5,
            .steps = 6,
            .batch = 2,
            .rows = 64,
            .learning_rate = 5e-3,
            .warm_up = 2,
            .checkpoint_interval = 100};
  }
  ModelCompensation start() { return start_low_rank(pipeline_, "paper", kRank, 1); }

  test::TempDir folder_;
  Pipeline pipeline_ = test::small_pipeline();
};

// Batches differ too much for their losses to fall steadily; against a run that does not learn, on
// the same batches, the difference shows.
TEST_P(TrainLowRank, LearnsToMakeSmallerErrors) {
  const auto late_loss = [&](double learning_rate) {
    TrainLowRankOptions longer = options();
    longer.steps = 30;
    longer.learning_rate = learning_rate;
    double sum = 0;
    train_low_rank(pipeline_, start(), longer, [&](const TrainLowRankProgress& progress) {
      if (progress.step > 20) sum += progress.loss;
      return true;
    });
    return sum;
  };
  EXPECT_LT(late_loss(2e-3), 0.999 * late_loss(1e-12));
}

TEST_P(TrainLowRank, InterruptedAndResumedEqualsUninterrupted) {
  const TrainLowRankResult whole = train_low_rank(pipeline_, start(), options());
  TrainLowRankOptions kept = options();
  kept.checkpoint = folder_ / "run";
  const TrainLowRankResult first = train_low_rank(
      pipeline_, start(), kept, [](const TrainLowRankProgress& at) { return at.step < 3; });
  EXPECT_FALSE(first.finished);
  const TrainLowRankResult second = train_low_rank(pipeline_, start(), kept);
  ASSERT_TRUE(second.finished);
  for (const auto& [name, layer] : whole.compensation.layers) {
    const Compensation24& resumed = second.compensation.layers.at(name).values;
    EXPECT_TRUE(resumed.down.equal(layer.values.down)) << name;
    EXPECT_TRUE(resumed.up.equal(layer.values.up)) << name;
    EXPECT_GT(resumed.up.abs().max().item<float>(), 0) << name;  // every layer learns
  }
}

TEST_P(TrainLowRank, LeavesTheBaseAndAppliesTheResult) {
  const torch::Tensor before =
      named_linears(*pipeline_.transformer).front().linear->weight.detach().clone();
  train_low_rank(pipeline_, start(), options());
  const LayerFilter in_paper = paper_layers(pipeline_.transformer->groups());
  for (const auto& [name, linear] : named_linears(*pipeline_.transformer)) {
    EXPECT_EQ(linear->mode(), in_paper(name) ? LinearMode::compensated : LinearMode::dense);
  }
  EXPECT_TRUE(named_linears(*pipeline_.transformer).front().linear->weight.equal(before));
}

TEST_P(TrainLowRank, ACheckpointOfAnotherRunIsRefused) {
  TrainLowRankOptions kept = options();
  kept.checkpoint = folder_ / "run";
  train_low_rank(pipeline_, start(), kept, [](const TrainLowRankProgress&) { return false; });
  kept.batch = 3;
  EXPECT_THROW(train_low_rank(pipeline_, start(), kept), Error);
}

INSTANTIATE_TEST_SUITE_P(Ways, TrainLowRank,
                         testing::Values(Way{LowRankObjective::layerwise, LowRankInputs::scenes},
                                         Way{LowRankObjective::velocity, LowRankInputs::scenes},
                                         Way{LowRankObjective::velocity,
                                             LowRankInputs::trajectories}),
                         [](const auto& way) {
                           const bool velocity = way.param.first == LowRankObjective::velocity;
                           const bool scenes = way.param.second == LowRankInputs::scenes;
                           return std::string(velocity ? "velocity" : "layerwise") +
                                  (scenes ? "" : "_trajectories");
                         });

TEST(TrainLowRankErrors, NameWhatIsMissing) {
  Pipeline pipeline = test::small_pipeline();
  ModelCompensation start = start_low_rank(pipeline, "paper", kRank, 1);
  start.layers.begin()->second.values.down = torch::Tensor();
  start.layers.begin()->second.values.up = torch::Tensor();
  EXPECT_THROW(train_low_rank(pipeline, start, {}), Error);
  pipeline.transformer->to(torch::kBFloat16);
  EXPECT_THROW(train_low_rank(pipeline, start_low_rank(pipeline, "paper", kRank, 1), {}), Error);
}

}  // namespace
}  // namespace rtlynx
