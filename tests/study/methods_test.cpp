// SPDX-License-Identifier: Apache-2.0
#include "study/methods.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "compensate/fixed_choice.h"
#include "compensate/weight24.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "models/shared_input.h"
#include "study/velocity_error.h"

namespace rtlynx {
namespace {

class Methods : public testing::Test {
 protected:
  Pipeline pipeline_ = test::small_pipeline();
  MethodInputs inputs_{.run = {.prompts = 2, .steps = 2}, .moments = {}};
  GenerateRequest request_{.prompts = {"a red circle"}, .seeds = {1}, .steps = 2, .guidance = 3.0};

  void SetUp() override {
    inputs_.moments = collect_sums(pipeline_, input_sums_options(inputs_.run)).value().moments;
  }

  std::vector<NamedLinear> paper_linears() {
    const LayerFilter in_paper = paper_layers(pipeline_.transformer->groups());
    std::vector<NamedLinear> layers = named_linears(*pipeline_.transformer);
    std::erase_if(layers, [&](const NamedLinear& layer) { return !in_paper(layer.name); });
    return layers;
  }
};

TEST(MethodsInE4m3, RunWhereKernelsReadTheirType) {
  const auto options = [](torch::DeviceType device, torch::ScalarType type) {
    return torch::TensorOptions().device(device).dtype(type);
  };
  EXPECT_TRUE(runs_e4m3(options(torch::kCPU, torch::kFloat32)));
  EXPECT_TRUE(runs_e4m3(options(torch::kCUDA, torch::kBFloat16)));
  const auto fp32_on_gpu = options(torch::kCUDA, torch::kFloat32);
  EXPECT_FALSE(runs_e4m3(fp32_on_gpu));
  EXPECT_NO_THROW(check_e4m3(options(torch::kCPU, torch::kFloat32), "block64+joint+e4m3"));
  EXPECT_THROW(check_e4m3(fp32_on_gpu, "block64+joint+e4m3"), UsageError);
  std::vector<std::string> names;
  for (const Method& method : all_methods()) {
    if (method.e4m3) names.push_back(method.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"norm+lora+e4m3", "block64+joint+e4m3"}));
}

TEST_F(Methods, MomentsCoverEveryInputOfTheRecipe) {
  EXPECT_EQ(inputs_.moments.size(), 7U);
  // Of 2 prompts, 2 steps, 2 guidance branches, 24 text and 256 image tokens, 512 a step at most.
  EXPECT_EQ(inputs_.moments.at("single_transformer_blocks.0.to_qkv_mlp").tokens, 2 * 512);
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

// What a compensated method leaves in every layer of the recipe.
struct Form {
  bool norm = false, weight = false, low_rank = false, blocks = false, scale = false;
  bool e4m3 = false;
  friend bool operator==(const Form&, const Form&) = default;
};

Form form_of(const Compensation24& values) {
  return {.norm = values.norm,
          .weight = values.weight.defined(),
          .low_rank = values.down.defined(),
          .blocks = values.transform.blocks.defined(),
          .scale = values.transform.scale.defined(),
          .e4m3 = values.e4m3};
}

TEST_F(Methods, CompensateAsTheirNamesSay) {
  const std::map<std::string, Form> expected = {
      {"norm+lora", {.norm = true, .low_rank = true}},
      {"norm+lora+e4m3", {.norm = true, .low_rank = true, .e4m3 = true}},
      {"refit", {.weight = true}},
      {"joint", {.weight = true, .low_rank = true}},
      {"columns+joint", {.weight = true, .low_rank = true, .scale = true}},
      {"block64", {.blocks = true}},
      {"block64+joint", {.weight = true, .low_rank = true, .blocks = true}},
      {"block64+joint+e4m3", {.weight = true, .low_rank = true, .blocks = true, .e4m3 = true}}};
  for (const Method& method : all_methods()) {
    if (method.kind != Method::Kind::activation24 || !method.reads_moments) continue;
    const std::string& name = method.name;
    ASSERT_TRUE(expected.contains(name)) << "a row for " << name;
    method.prepare(pipeline_, inputs_);
    for (const NamedLinear& layer : paper_linears()) {
      ASSERT_EQ(layer.linear->mode(), LinearMode::compensated) << name << " " << layer.name;
      Form found = form_of(*layer.linear->compensation());
      // A transform's weight is computed where the file has none.
      if (name == "block64") found.weight = false;
      EXPECT_EQ(found, expected.at(name)) << name << " " << layer.name;
    }
    restore_dense(pipeline_);
  }
  for (const auto mode : {LinearMode::naive, LinearMode::norm}) {
    find_method(to_string(mode)).prepare(pipeline_, inputs_);
    for (const NamedLinear& layer : paper_linears()) EXPECT_EQ(layer.linear->mode(), mode);
  }
}

TEST_F(Methods, ReplaceWeightsAsTheirNamesSay) {
  using Make = std::function<torch::Tensor(const torch::Tensor& w, const torch::Tensor& c)>;
  constexpr std::int64_t kRank = 16;
  const std::map<std::string, Make> expected = {
      {"magnitude", [](auto& w, auto&) { return prune_by_magnitude(w).effective(); }},
      {"wanda", [](auto& w, auto& c) { return prune_by_wanda(w, c).effective(); }},
      {"ria", [](auto& w, auto& c) { return prune_by_ria(w, c).effective(); }},
      {"ria-permuted",
       [](auto& w, auto& c) { return prune_by_ria(w, c, ChannelOrder::snake).effective(); }},
      {"bawa-style",
       [](auto& w, auto& c) {
         return prune_bawa_style(w, c, search_bawa_exponents(w, c)).effective();
       }},
      {"sparsegpt", [](auto& w, auto& c) { return prune_by_sparse_gpt(w, c).effective(); }},
      {"slim", [](auto& w, auto& c) { return prune_by_slim(w, c).effective(); }},
      {"wanda+lora",
       [](auto& w, auto& c) {
         return with_low_rank(prune_by_wanda(w, c), w, c, kRank).effective();
       }},
      {"sparsegpt+lora",
       [](auto& w, auto& c) {
         return with_low_rank(prune_by_sparse_gpt(w, c), w, c, kRank).effective();
       }},
      {"fixed-low-rank", [](auto& w, auto& c) { return fix_low_rank(w, c).effective(); }},
      {"fixed-half", [](auto& w, auto& c) { return fix_half_of_axes(w, c).effective(); }}};
  const auto input_of = input_names(pipeline_.transformer->groups());
  const NamedLinear layer = paper_linears().front();
  const torch::Tensor moment = inputs_.moments.at(input_of.at(layer.name)).second_moment();
  for (const Method& method : all_methods()) {
    if (method.kind != Method::Kind::weight24 && method.kind != Method::Kind::fixed_choice)
      continue;
    const std::string& name = method.name;
    ASSERT_TRUE(expected.contains(name)) << "a row for " << name;
    method.prepare(pipeline_, inputs_);
    ASSERT_EQ(layer.linear->mode(), LinearMode::replaced) << name;
    const torch::Tensor& weight = layer.linear->weight;
    const torch::Tensor wanted = expected.at(name)(weight, moment).to(weight);
    EXPECT_TRUE(layer.linear->replacement()->weight.equal(wanted)) << name;
    restore_dense(pipeline_);
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
  // Three square layers beside two of the MLP in a double block, one in the single block; layers
  // of the MLP weigh four times as much, the single block's 280 tokens those of both streams.
  const double square = 3 + 3, mlp = 4 * (2 + 1);
  EXPECT_NEAR(find_method("wanda+lora").prepare(pipeline_, inputs_),
              0.5 + (square * 0.5 + mlp * 16 * 5 / 256.0) / (square + mlp), 1e-12);
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
