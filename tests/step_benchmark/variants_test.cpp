// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/variants.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "models/flux/groups.h"
#include "models/flux/transformer.h"

namespace rtlynx::step_benchmark {
namespace {

constexpr gpu::DeviceTraits kH200{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = 232448};
constexpr StreamTokens kTokens{.image = 4096, .text = 512};

const StepVariant& named(const std::string& name) {
  const auto& all = step_variants();
  return *std::find_if(all.begin(), all.end(),
                       [&](const StepVariant& variant) { return variant.name == name; });
}

std::set<std::string> sparse_names(const std::string& variant, const gpu::DeviceTraits& device) {
  static const std::vector<LayerGroup> groups = flux_groups({});
  std::set<std::string> names;
  for (const LayerGroup* group : sparse_groups(named(variant), groups, kTokens, device)) {
    for (const GroupLayer& layer : group->layers) names.insert(layer.name);
  }
  return names;
}

TEST(VariantsTest, NamesChooseInTheOrderOfTheTable) {
  EXPECT_EQ(variants_named({}).size() + 1, step_variants().size());  // all but `weights`
  const std::vector<StepVariant> two = variants_named({"paper", "dense", "paper"});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].name, "dense");
  EXPECT_EQ(two[1].name, "paper");
  EXPECT_THROW(variants_named({"dense", "fast"}), UsageError);
}

TEST(VariantsTest, DenseHasNoSparseLayer) { EXPECT_TRUE(sparse_names("dense", kH200).empty()); }

TEST(VariantsTest, ThePaperLeavesOutProjectionsDense) {
  const std::set<std::string> paper = sparse_names("paper", kH200);
  EXPECT_TRUE(paper.contains("transformer_blocks.0.attn.to_q"));
  EXPECT_TRUE(paper.contains("single_transformer_blocks.37.proj_mlp"));
  EXPECT_FALSE(paper.contains("transformer_blocks.0.attn.to_out.0"));
  EXPECT_FALSE(paper.contains("single_transformer_blocks.0.proj_out"));
  EXPECT_EQ(sparse_names("paper-block64", kH200), paper);
}

TEST(VariantsTest, BestAddsWhatGains) {
  const std::set<std::string> paper = sparse_names("paper", kH200);
  const std::set<std::string> best = sparse_names("best-block64", kH200);
  EXPECT_TRUE(std::includes(best.begin(), best.end(), paper.begin(), paper.end()));
  EXPECT_TRUE(best.contains("single_transformer_blocks.0.proj_out"));
  // e4m3 is never slower than 16 bits.
  const std::set<std::string> e4m3 = sparse_names("e4m3", kH200);
  EXPECT_TRUE(std::includes(e4m3.begin(), e4m3.end(), best.begin(), best.end()));
}

// A group runs sparse only where that is faster: not where there is no kernel for it.
TEST(VariantsTest, WithoutSparseUnitsAllIsDense) {
  EXPECT_TRUE(sparse_names("best-block64", {.compute_capability = 75}).empty());
}

TEST(VariantsTest, ApplySetsTheFormOfAGroup) {
  const FluxConfig config{.num_layers = 1,
                          .num_single_layers = 1,
                          .attention_head_dim = 32,
                          .num_attention_heads = 4,
                          .joint_attention_dim = 32,
                          .pooled_projection_dim = 32,
                          .axes_dims_rope = {8, 12, 12}};
  FluxTransformer model(config, torch::TensorOptions());
  const std::vector<LayerGroup> groups = flux_groups(config);
  apply(named("paper-block64"), {&groups.front()}, *model);
  std::vector<torch::Tensor> blocks;
  for (const NamedLinear& item : named_linears(*model)) {
    const bool sparse = item.name.starts_with("transformer_blocks.0.attn.to_") &&
                        !item.name.ends_with("to_out.0") && !item.name.ends_with("to_add_out");
    EXPECT_EQ(item.linear->mode(), sparse ? LinearMode::compensated : LinearMode::dense)
        << item.name;
    if (!sparse) continue;
    const Compensation24& form = *item.linear->compensation();
    EXPECT_EQ(form.rank(), 64) << item.name;
    blocks.push_back(form.transform.blocks);
  }
  ASSERT_EQ(blocks.size(), 3u);  // one input: one transform
  for (const torch::Tensor& block : blocks) EXPECT_EQ(block.data_ptr(), blocks.front().data_ptr());
  const torch::Tensor square = blocks.front().matmul(blocks.front().transpose(1, 2));
  EXPECT_TRUE(torch::allclose(square, torch::eye(64).expand_as(square), 0, 1e-4));
}

}  // namespace
}  // namespace rtlynx::step_benchmark
