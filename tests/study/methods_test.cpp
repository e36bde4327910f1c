// SPDX-License-Identifier: Apache-2.0
#include "study/methods.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "pipeline/small_pipeline.h"
#include "study/input_moments.h"
#include "study/velocity_error.h"

namespace rtlynx {
namespace {

class Methods : public testing::Test {
 protected:
  Pipeline pipeline_ = test::small_pipeline();
  MethodInputs inputs_{.run = {.prompts = 2, .steps = 2}, .moments = {}};
  GenerateRequest request_{.prompts = {"a red circle"}, .seeds = {1}, .steps = 2, .guidance = 3.0};

  void SetUp() override { inputs_.moments = collect_input_moments(pipeline_, inputs_.run); }
};

TEST_F(Methods, MomentsCoverEveryInputOfTheRecipe) {
  EXPECT_EQ(inputs_.moments.size(), 7U);
  // 2 prompts, 2 steps, 2 guidance branches, 24 text and 256 image tokens.
  EXPECT_EQ(inputs_.moments.at("single_transformer_blocks.0.to_qkv_mlp").tokens, 8 * 280);
  EXPECT_EQ(inputs_.moments.at("transformer_blocks.0.attn.to_added_qkv").tokens, 8 * 24);
}

TEST_F(Methods, EachChangesTheModelAndIsUndone) {
  const DenseTrajectory trajectory = record_trajectory(pipeline_, request_, 1);
  for (const Method& method : all_methods()) {
    const double cost = method.prepare(pipeline_, inputs_);
    const double error = measure_velocity_error(pipeline_, trajectory).relative();
    restore_dense(pipeline_);
    EXPECT_EQ(measure_velocity_error(pipeline_, trajectory).relative(), 0) << method.name;
    if (method.kind == Method::Kind::dense) {
      EXPECT_EQ(cost, 1);
      EXPECT_EQ(error, 0);
      continue;
    }
    EXPECT_GT(cost, 0.4) << method.name;
    EXPECT_LT(cost, 1.5) << method.name;  // at d = 64 rank 16 and blocks cost what they save
    EXPECT_GT(error, 1e-4) << method.name;
    EXPECT_LT(error, 1) << method.name;
  }
}

TEST_F(Methods, CompensationHelpsOnThePicturesItLearnedFrom) {
  const DenseTrajectory trajectory =
      record_trajectory(pipeline_, calibration_request(inputs_.run), 2);
  const auto error = [&](const char* name) {
    find_method(name).prepare(pipeline_, inputs_);
    const double relative = measure_velocity_error(pipeline_, trajectory).relative();
    restore_dense(pipeline_);
    return relative;
  };
  EXPECT_LT(error("wanda+lora"), error("wanda"));
  EXPECT_LT(error("sparsegpt"), error("wanda"));
}

TEST_F(Methods, CostWeighsLayersByTheirTokens) {
  EXPECT_DOUBLE_EQ(find_method("wanda").prepare(pipeline_, inputs_), 0.5);
  // d = 64: a rank of 16 costs 1/2 in a square layer and 16 * 5 / (4 * 64) in those of the MLP.
  const double lora = find_method("wanda+lora").prepare(pipeline_, inputs_);
  EXPECT_GT(lora, 0.5 + 16 * 5 / 256.0);
  EXPECT_LT(lora, 0.5 + 0.5);
}

TEST_F(Methods, SayWhatTheyMiss) {
  EXPECT_THROW(find_method("wanda").prepare(pipeline_, {.run = {}, .moments = {}}), Error);
}

TEST(MethodNames, AreUniqueAndFound) {
  std::set<std::string> names;
  for (const Method& method : all_methods()) {
    EXPECT_TRUE(names.insert(method.name).second) << method.name;
    EXPECT_EQ(&find_method(method.name), &method);
    EXPECT_FALSE(method.description.empty());
    EXPECT_FALSE(to_string(method.kind).empty());
  }
  EXPECT_EQ(all_methods().front().name, "dense");
  try {
    find_method("sorcery");
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("sparsegpt+lora"));
    EXPECT_THAT(error.what(), testing::EndsWith("got sorcery"));
  }
}

}  // namespace
}  // namespace rtlynx
