// SPDX-License-Identifier: Apache-2.0
#include "study/choose_layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "study/calibrate.h"
#include "study/methods.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

class ChooseLayers : public testing::Test {
 protected:
  ChooseLayers() {
    const CalibrateOptions options{.run = {.prompts = 2, .steps = 2, .batch = 2},
                                   .rows = 64,
                                   .solve = {.method = CompensationMethod::refit, .rank = 8},
                                   .rivals = {kRivalMethods.begin(), kRivalMethods.end()}};
    result_ = calibrate(pipeline_, options);
    GenerateRequest request =
        calibration_request({.prompts = 1, .seed = 3, .steps = 1, .guidance = 1.0});
    request.width = request.height = pipeline_.trained_size;
    trajectory_ = record_trajectory(pipeline_, request, 1);
  }

  // Of the sparse activations alone.
  LayerCandidates pure() const {
    CalibrateResult result = result_;
    for (CalibratedLayer& layer : result.layers) layer.rivals.clear();
    return candidates_of(result);
  }

  LayerChoices choose(LayerBudget::Kind kind, double limit) {
    return choose_layers(pipeline_, pure(), trajectory_, {.kind = kind, .limit = limit});
  }

  static std::size_t chosen(const LayerChoices& choices) {
    return choices.compensation.layers.size();
  }

  Pipeline pipeline_ = test::small_pipeline();
  CalibrateResult result_;
  DenseTrajectory trajectory_;
};

TEST_F(ChooseLayers, KeepsTheErrorBudget) {
  const LayerChoices all = choose(LayerBudget::Kind::error, 1.0);
  EXPECT_EQ(chosen(all), result_.compensation.layers.size());
  const double limit = all.velocity_error / 2;
  const LayerChoices some = choose(LayerBudget::Kind::error, limit);
  EXPECT_LT(chosen(some), chosen(all));
  EXPECT_GT(chosen(some), 0U);
  EXPECT_LE(some.velocity_error, limit);
  EXPECT_GT(some.relative_cost, all.relative_cost);
  // What is reported is what is applied.
  EXPECT_DOUBLE_EQ(measure_velocity_error(pipeline_, trajectory_).relative(), some.velocity_error);
  for (const auto& [name, linear] : named_linears(*pipeline_.transformer)) {
    EXPECT_EQ(linear->mode() == LinearMode::compensated, some.compensation.layers.contains(name));
  }
}

TEST_F(ChooseLayers, ReachesTheSpeedWithTheCheapestLayers) {
  const LayerChoices all = choose(LayerBudget::Kind::error, 1.0);
  const double limit = (1 + all.relative_cost) / 2;
  const LayerChoices some = choose(LayerBudget::Kind::speed, limit);
  EXPECT_LE(some.relative_cost, limit);
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

// The demand: at a cost no higher than that of any one method in all layers, the sum of the
// errors is no larger, and somewhere it is smaller.
TEST_F(ChooseLayers, AMixtureIsNoWorseThanAnyMethodAlone) {
  const LayerCandidates all = candidates_of(result_);
  std::set<std::string> methods, mixed;
  for (const LayerOption& option : all.options.begin()->second) methods.insert(option.layer.method);
  ASSERT_EQ(methods.size(), 5U);
  bool better = false;
  for (const std::string& method : methods) {
    LayerCandidates alone = all;
    for (auto& [name, options] : alone.options) {
      std::erase_if(options, [&](const auto& option) { return option.layer.method != method; });
    }
    // An error budget of 1 takes every layer that saves anything.
    const LayerChoices one = choose_layers(pipeline_, alone, trajectory_,
                                           {.limit = 1, .measure = CostMeasure::multiplications});
    const LayerChoices mixture = choose_layers(pipeline_, all, trajectory_,
                                               {.kind = LayerBudget::Kind::speed,
                                                .limit = one.relative_cost,
                                                .measure = CostMeasure::multiplications});
    EXPECT_LE(mixture.relative_cost, one.relative_cost + 1e-9) << method;
    EXPECT_LE(mixture.summed_error, one.summed_error + 1e-9) << method;
    better = better || mixture.summed_error < 0.9 * one.summed_error;
    for (const LayerChoice& layer : mixture.layers) mixed.insert(layer.method);
    EXPECT_EQ(mixture.compensation.layers.size(),
              static_cast<std::size_t>(
                  std::count_if(mixture.layers.begin(), mixture.layers.end(),
                                [](const LayerChoice& layer) { return layer.chosen; })));
    // What is reported is what is applied.
    EXPECT_DOUBLE_EQ(measure_velocity_error(pipeline_, trajectory_).relative(),
                     mixture.velocity_error);
  }
  EXPECT_TRUE(better);
  EXPECT_GT(mixed.size(), 2U);
}

TEST_F(ChooseLayers, EqualCostsNoMoreThanSparseActivationsEverywhere) {
  const LayerChoices everywhere = choose(LayerBudget::Kind::error, 1.0);
  const LayerChoices mixture = choose_layers(pipeline_, candidates_of(result_), trajectory_,
                                             {.kind = LayerBudget::Kind::equal});
  EXPECT_LE(mixture.relative_cost, everywhere.relative_cost + 1e-9);
  EXPECT_LE(mixture.summed_error, everywhere.summed_error + 1e-9);
  // It survives its file.
  const test::TempDir folder;
  write_compensation(folder / "mixed", mixture.compensation);
  restore_dense(pipeline_);
  apply_compensation(*pipeline_.transformer, read_compensation(folder / "mixed"), "mixed");
  EXPECT_NEAR(measure_velocity_error(pipeline_, trajectory_).relative(), mixture.velocity_error,
              1e-6);
}

// 280 tokens: no kernel, so nothing to save, and said so.
TEST_F(ChooseLayers, TimeLeavesSmallModelsDense) {
  const LayerBudget budget{.limit = 1.0, .measure = CostMeasure::time};
  const LayerChoices choices = choose_layers(pipeline_, pure(), trajectory_, budget);
  EXPECT_EQ(chosen(choices), 0U);
  EXPECT_EQ(choices.velocity_error, 0);
  EXPECT_EQ(choices.relative_cost, 1);
  for (const LayerChoice& layer : choices.layers) {
    EXPECT_NE(layer.why.find("saves nothing; refit: no kernel: fewer than 1024 tokens"),
              std::string::npos)
        << layer.why;
  }
  const LayerChoices by_default = choose(LayerBudget::Kind::error, 1.0);
  EXPECT_EQ(by_default.measure, CostMeasure::multiplications);
  EXPECT_NE(by_default.measure_reason.find("no layer would save time"), std::string::npos);
}

TEST_F(ChooseLayers, EveryLayerHasAReason) {
  const LayerChoices all = choose(LayerBudget::Kind::error, 1.0);
  const LayerChoices some = choose(LayerBudget::Kind::error, all.velocity_error / 2);
  for (const LayerChoice& layer : some.layers) {
    EXPECT_EQ(layer.method, layer.chosen ? "refit" : "dense");
    const char* reason = layer.chosen ? "a better bargain than those left dense" : "budget";
    EXPECT_NE(layer.why.find(reason), std::string::npos) << layer.why;
    EXPECT_NE(layer.why.find("0.50 of its multiplications"), std::string::npos) << layer.why;
  }
}

TEST_F(ChooseLayers, ImpossibleBudgetsAreRefused) {
  EXPECT_THROW(choose(LayerBudget::Kind::speed, 0.1), UsageError);
  EXPECT_THROW(choose(LayerBudget::Kind::error, 0.0), UsageError);
  EXPECT_THROW(choose(LayerBudget::Kind::error, 1.5), UsageError);
}

}  // namespace
}  // namespace rtlynx
