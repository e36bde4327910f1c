// SPDX-License-Identifier: Apache-2.0
#include "study/choose_layers.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "models/recipe.h"
#include "pipeline/small_pipeline.h"
#include "study/calibrate.h"

namespace rtlynx {
namespace {

class ChooseLayers : public testing::Test {
 protected:
  ChooseLayers() {
    const CalibrateOptions options{.run = {.prompts = 2, .steps = 2, .batch = 2},
                                   .rows = 64,
                                   .solve = {.method = CompensationMethod::refit, .rank = 16}};
    compensation_ = calibrate(pipeline_, options).compensation;
    GenerateRequest request = calibration_request({.prompts = 1, .seed = 3, .steps = 2});
    request.width = request.height = pipeline_.trained_size;
    trajectory_ = record_trajectory(pipeline_, request, 1);
  }

  LayerChoices choose(LayerBudget::Kind kind, double limit) {
    return choose_layers(pipeline_, compensation_, trajectory_, {.kind = kind, .limit = limit});
  }

  static std::size_t chosen(const LayerChoices& choices) {
    return choices.compensation.layers.size();
  }

  Pipeline pipeline_ = test::small_pipeline();
  ModelCompensation compensation_;
  DenseTrajectory trajectory_;
};

TEST_F(ChooseLayers, KeepsTheErrorBudget) {
  const LayerChoices all = choose(LayerBudget::Kind::error, 1.0);
  EXPECT_EQ(chosen(all), compensation_.layers.size());
  const double limit = all.velocity_error / 2;
  const LayerChoices some = choose(LayerBudget::Kind::error, limit);
  EXPECT_LT(chosen(some), chosen(all));
  EXPECT_GT(chosen(some), 0U);
  EXPECT_LE(some.velocity_error, limit);
  EXPECT_GT(some.relative_flops, all.relative_flops);
  // What is reported is what is applied.
  EXPECT_DOUBLE_EQ(measure_velocity_error(pipeline_, trajectory_).relative(), some.velocity_error);
  for (const auto& [name, linear] : named_linears(*pipeline_.transformer)) {
    EXPECT_EQ(linear->mode() == LinearMode::compensated, some.compensation.layers.contains(name));
  }
}

TEST_F(ChooseLayers, ReachesTheSpeedWithTheCheapestLayers) {
  const LayerChoices all = choose(LayerBudget::Kind::error, 1.0);
  const double limit = (1 + all.relative_flops) / 2;
  const LayerChoices some = choose(LayerBudget::Kind::speed, limit);
  EXPECT_LE(some.relative_flops, limit);
  EXPECT_LT(chosen(some), chosen(all));
  bool ended = false;
  for (std::size_t i = 0; i < some.layers.size(); ++i) {
    const LayerChoice& layer = some.layers[i];
    ended = ended || !layer.chosen;
    EXPECT_EQ(layer.chosen, !ended) << layer.name;
    if (i == 0) continue;
    const auto price = [](const LayerChoice& at) {
      return at.velocity_error * at.velocity_error / at.saved;
    };
    EXPECT_LE(price(some.layers[i - 1]), price(layer));
  }
}

TEST_F(ChooseLayers, ImpossibleBudgetsAreRefused) {
  EXPECT_THROW(choose(LayerBudget::Kind::speed, 0.1), UsageError);
  EXPECT_THROW(choose(LayerBudget::Kind::error, 0.0), UsageError);
  EXPECT_THROW(choose(LayerBudget::Kind::error, 1.5), UsageError);
}

TEST(RelativeFlops, CountsLowRankAndTransform) {
  Compensation24 values;
  EXPECT_DOUBLE_EQ(relative_flops(values, 64, 128, 1), 0.5);
  values.down = torch::zeros({8, 64});
  values.up = torch::zeros({128, 8});
  EXPECT_DOUBLE_EQ(relative_flops(values, 64, 128, 1), 0.5 + 8.0 * (64 + 128) / (64 * 128));
  values.transform.blocks = torch::zeros({4, 16, 16});
  EXPECT_DOUBLE_EQ(relative_flops(values, 64, 128, 0.5),
                   0.5 + (8.0 * (64 + 128) + 0.5 * 16 * 64) / (64 * 128));
}

}  // namespace
}  // namespace rtlynx
