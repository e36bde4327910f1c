// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "models/produced_input.h"
#include "models/qwen_image/small_qwen_image.h"
#include "models/qwen_image/transformer.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

QwenImageConfig config() {
  QwenImageConfig config = test::small_qwen_image_config();
  config.num_layers = 2;
  return config;
}

TEST(QwenImageGroups, HaveEveryLinearOfTheBlocksWithItsShape) {
  QwenImageTransformer model(config());
  std::map<std::string, const LayerGroup*> by_layer;
  const std::vector<LayerGroup> groups = qwen_image_groups(config());
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      EXPECT_TRUE(by_layer.emplace(layer.name, &group).second) << layer.name;
    }
  }
  std::size_t in_blocks = 0;
  for (const NamedLinear& item : named_linears(*model)) {
    const bool modulation = item.name.find("_mod.") != std::string::npos;
    if (modulation || !item.name.starts_with("transformer_blocks.")) continue;
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
  EXPECT_EQ(in_blocks, 2U * 12U);
}

TEST(QwenImageGroups, ThePaperTakesQkvAndTheMlpOfBothStreams) {
  for (const LayerGroup& group : qwen_image_groups(config())) {
    const bool attention_out = group.name.ends_with("to_out.0") || group.name.ends_with("add_out");
    EXPECT_EQ(group.in_paper(), !attention_out) << group.name;
    const bool text =
        group.name.find("add") != std::string::npos || group.name.find("txt_") != std::string::npos;
    EXPECT_EQ(group.stream, text ? TokenStream::text : TokenStream::image) << group.name;
  }
}

// Throws for a maker that the model does not have.
TEST(QwenImageGroups, EveryInputIsMadeByLinearsOfTheModel) {
  QwenImageTransformer model(config());
  const auto groups = qwen_image_groups(config());
  // Attention of both streams is made by the same rows: one input of two layers in each block.
  EXPECT_EQ(produced_inputs(*model, groups).size(), groups.size() - 2);
}

}  // namespace
}  // namespace rtlynx
