// SPDX-License-Identifier: Apache-2.0
#include "models/flux/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;

FluxConfig config() {
  FluxConfig config = test::small_flux_config();
  config.num_layers = 2;
  config.num_single_layers = 3;
  return config;
}

std::map<std::string, const LayerGroup*> groups_by_layer(const std::vector<LayerGroup>& groups) {
  std::map<std::string, const LayerGroup*> found;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      EXPECT_TRUE(found.emplace(layer.name, &group).second) << layer.name;
    }
  }
  return found;
}

TEST(FluxGroups, HaveEveryLinearOfTheBlocksWithItsShape) {
  FluxTransformer model(config());
  const std::vector<LayerGroup> groups = flux_groups(config());
  const auto by_layer = groups_by_layer(groups);
  std::size_t in_blocks = 0;
  for (const NamedLinear& item : named_linears(*model)) {
    const bool modulation = item.name.find("norm") != std::string::npos;
    if (modulation || item.name.find("blocks.") == std::string::npos) continue;
    ++in_blocks;
    ASSERT_TRUE(by_layer.contains(item.name)) << item.name;
    const LayerGroup& group = *by_layer.at(item.name);
    EXPECT_EQ(group.channels, item.linear->in_features()) << item.name;
    const auto layer =
        std::find_if(group.layers.begin(), group.layers.end(),
                     [&](const GroupLayer& other) { return other.name == item.name; });
    EXPECT_EQ(layer->outputs, item.linear->out_features()) << item.name;
    EXPECT_TRUE(item.name.starts_with(group.block)) << item.name;
  }
  EXPECT_EQ(by_layer.size(), in_blocks);
}

TEST(FluxGroups, PartsAreTheWholeInput) {
  for (const LayerGroup& group : flux_groups(config())) {
    std::int64_t channels = 0;
    for (const InputPart& part : group.parts) channels += part.channels;
    EXPECT_EQ(channels, group.channels) << group.name;
  }
}

const LayerGroup& group_of(const std::vector<LayerGroup>& groups, const std::string& name) {
  const auto at = std::find_if(groups.begin(), groups.end(),
                               [&](const LayerGroup& group) { return group.name == name; });
  if (at == groups.end()) throw std::runtime_error("no group " + name);
  return *at;
}

std::vector<std::string> names_of(const LayerGroup& group) {
  std::vector<std::string> names;
  for (const GroupLayer& layer : group.layers) names.push_back(layer.name);
  return names;
}

TEST(FluxGroups, ProjectionsOfAStreamShareOne) {
  const std::vector<LayerGroup> groups = flux_groups(config());
  const LayerGroup& text = group_of(groups, "transformer_blocks.1.attn.to_added_qkv");
  EXPECT_EQ(names_of(text), (std::vector<std::string>{"transformer_blocks.1.attn.add_q_proj",
                                                      "transformer_blocks.1.attn.add_k_proj",
                                                      "transformer_blocks.1.attn.add_v_proj"}));
  EXPECT_EQ(text.stream, TokenStream::text);
  EXPECT_TRUE(text.in_paper());
  const LayerGroup& joint = group_of(groups, "single_transformer_blocks.2.to_qkv_mlp");
  EXPECT_EQ(names_of(joint).back(), "single_transformer_blocks.2.proj_mlp");
  EXPECT_EQ(joint.layers.size(), 4U);
  EXPECT_EQ(joint.stream, TokenStream::joint);
}

TEST(FluxGroups, OnlyTheMlpMayReorderItsInput) {
  for (const LayerGroup& group : flux_groups(config())) {
    EXPECT_EQ(group.order_is_free(), group.name.ends_with(".net.2")) << group.name;
  }
}

TEST(FluxGroups, SayWhatMakesAnInput) {
  const std::vector<LayerGroup> groups = flux_groups(config());
  const InputPart& up = group_of(groups, "transformer_blocks.0.ff_context.net.0.proj").parts[0];
  EXPECT_EQ(up.maker, Maker::modulated_norm);
  EXPECT_EQ(up.made_by, std::vector<std::string>{"transformer_blocks.0.norm1_context.linear"});
  EXPECT_EQ(up.shift_part, 3);
  EXPECT_EQ(up.scale_part, 4);
  const LayerGroup& joined = group_of(groups, "single_transformer_blocks.0.proj_out");
  ASSERT_EQ(joined.parts.size(), 2U);
  EXPECT_EQ(joined.parts[0].maker, Maker::attention);
  EXPECT_EQ(joined.parts[0].head_dim, config().attention_head_dim);
  EXPECT_EQ(joined.parts[1].maker, Maker::gelu);
  EXPECT_EQ(joined.parts[1].made_by,
            std::vector<std::string>{"single_transformer_blocks.0.proj_mlp"});
  EXPECT_FALSE(joined.in_paper());
}

}  // namespace
}  // namespace rtlynx
