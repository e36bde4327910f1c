// SPDX-License-Identifier: Apache-2.0
#include "models/flux/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/input_group.h"
#include "models/produced_input.h"
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

// The tables of names that the groups replace.
TEST(FluxGroups, EqualTheTablesOfNames) {
  FluxTransformer model(config());
  const std::vector<LayerGroup> groups = flux_groups(config());
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      EXPECT_EQ(input_group(layer.name), group.name) << layer.name;
      EXPECT_EQ(in_paper_flux_recipe(layer.name), layer.in_paper) << layer.name;
      const bool free = group.parts.size() == 1 && group.parts[0].maker == Maker::gelu;
      EXPECT_EQ(input_order_is_free(layer.name), free) << layer.name;
    }
  }
  std::map<std::string, const LayerGroup*> left = groups_by_layer(groups);
  for (const ProducedInput& produced : produced_inputs(*model)) {
    const LayerGroup& group = *left.at(produced.readers.front().name);
    std::set<std::string> readers, names;
    for (const NamedLinear& reader : produced.readers) readers.insert(reader.name);
    for (const GroupLayer& layer : group.layers) names.insert(layer.name);
    // Both output projections of a double block read a mix of both streams' values.
    EXPECT_TRUE(std::includes(readers.begin(), readers.end(), names.begin(), names.end()))
        << group.name;
    ASSERT_EQ(produced.channels.size(), group.parts.size()) << group.name;
    for (std::size_t i = 0; i < group.parts.size(); ++i) {
      const ProducedChannels& channels = produced.channels[i];
      const InputPart& part = group.parts[i];
      EXPECT_EQ(channels.count, part.channels) << group.name;
      EXPECT_EQ(channels.takes_scale, part.maker != Maker::gelu) << group.name;
      std::vector<std::string> makers;
      for (const ProducerRows& rows : channels.rows) {
        if (makers.empty() || makers.back() != rows.layer.name) makers.push_back(rows.layer.name);
      }
      EXPECT_EQ(makers, part.made_by) << group.name;
      if (part.maker == Maker::attention) {
        EXPECT_EQ(channels.order_block, part.head_dim);
      }
      if (part.maker != Maker::modulated_norm) continue;
      EXPECT_EQ(channels.rows[0].first, part.shift_part * part.channels);
      EXPECT_EQ(channels.rows[1].first, part.scale_part * part.channels);
    }
    for (const NamedLinear& reader : produced.readers) left.erase(reader.name);
  }
  EXPECT_TRUE(left.empty()) << left.begin()->first;
}

}  // namespace
}  // namespace rtlynx
