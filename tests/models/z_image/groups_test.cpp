// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "models/produced_input.h"
#include "models/recipe.h"
#include "models/z_image/small_z_image.h"
#include "models/z_image/transformer.h"

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;

ZImageConfig config() {
  ZImageConfig config = test::small_z_image_config();
  config.n_layers = 3;
  config.n_refiner_layers = 2;
  return config;
}

TEST(ZImageGroups, HaveEveryLinearOfTheBlocksWithItsShape) {
  ZImageTransformer model(config());
  std::map<std::string, const LayerGroup*> by_layer;
  const std::vector<LayerGroup> groups = z_image_groups(config());
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      EXPECT_TRUE(by_layer.emplace(layer.name, &group).second) << layer.name;
    }
  }
  std::size_t in_blocks = 0;
  for (const NamedLinear& item : named_linears(*model)) {
    const bool in_block = item.name.find(".attention.") != std::string::npos ||
                          item.name.find(".feed_forward.") != std::string::npos;
    if (!in_block) continue;
    ++in_blocks;
    ASSERT_TRUE(by_layer.contains(item.name)) << item.name;
    const LayerGroup& group = *by_layer.at(item.name);
    EXPECT_EQ(group.channels, item.linear->in_features()) << item.name;
    EXPECT_EQ(group.parts.front().channels, group.channels) << item.name;
    const auto layer =
        std::find_if(group.layers.begin(), group.layers.end(),
                     [&](const GroupLayer& other) { return other.name == item.name; });
    EXPECT_EQ(layer->outputs, item.linear->out_features()) << item.name;
    EXPECT_TRUE(item.name.starts_with(group.block)) << item.name;
  }
  EXPECT_EQ(by_layer.size(), in_blocks);
  EXPECT_EQ(in_blocks, 7U * 7U);
}

TEST(ZImageGroups, ThePaperTakesQkvAndW2OfTheLayers) {
  for (const LayerGroup& group : z_image_groups(config())) {
    const bool wanted = group.block.starts_with("layers.") &&
                        (group.name.ends_with("to_qkv") || group.name.ends_with("w2"));
    EXPECT_EQ(group.in_paper(), wanted) << group.name;
  }
}

TEST(ZImageGroups, StreamsAreThoseOfTheBlocks) {
  for (const LayerGroup& group : z_image_groups(config())) {
    const TokenStream wanted = group.block.starts_with("layers.")          ? TokenStream::joint
                               : group.block.starts_with("noise_refiner.") ? TokenStream::image
                                                                           : TokenStream::text;
    EXPECT_EQ(group.stream, wanted) << group.name;
  }
}

TEST(ZImageGroups, OnlyTheMlpMayReorderItsInput) {
  for (const LayerGroup& group : z_image_groups(config())) {
    EXPECT_EQ(group.order_is_free(), group.name.ends_with(".w2")) << group.name;
  }
}

// A modulation's scale and, since Z-Image has none, no shift; q, k, v and the MLP read two inputs.
TEST(ZImageGroups, SayWhichRowsMakeAnInput) {
  ZImageTransformer model(config());
  const std::int64_t dim = config().dim;
  std::map<std::string, std::vector<ProducerRows>> rows;
  for (const ProducedInput& input : produced_inputs(*model, z_image_groups(config()))) {
    for (const NamedLinear& reader : input.readers) {
      rows.emplace(reader.name, input.channels.front().rows);
    }
  }
  const auto& qkv = rows.at("layers.1.attention.to_k");
  ASSERT_EQ(qkv.size(), 1U);
  EXPECT_EQ(qkv[0].layer.name, "layers.1.adaLN_modulation.0");
  EXPECT_EQ(qkv[0].first, 0);
  EXPECT_EQ(qkv[0].offset, 1);
  const auto& mlp = rows.at("layers.1.feed_forward.w3");
  ASSERT_EQ(mlp.size(), 1U);
  EXPECT_EQ(mlp[0].first, 2 * dim);
  const auto& down = rows.at("layers.1.feed_forward.w2");
  ASSERT_EQ(down.size(), 2U);
  EXPECT_EQ(down[0].layer.name, "layers.1.feed_forward.w3");
  EXPECT_TRUE(down[0].takes_scale);
  EXPECT_EQ(down[1].layer.name, "layers.1.feed_forward.w1");
  EXPECT_FALSE(down[1].takes_scale);
  EXPECT_FALSE(rows.contains("context_refiner.0.attention.to_q"));  // no Linear makes it
}

}  // namespace
}  // namespace rtlynx
