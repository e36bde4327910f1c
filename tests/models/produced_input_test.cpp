// SPDX-License-Identifier: Apache-2.0
#include "models/produced_input.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/input_group.h"

namespace rtlynx {
namespace {

class ProducedInputs : public testing::Test {
 protected:
  const ProducedInput& of(const std::string& reader) const {
    for (const ProducedInput& input : inputs_) {
      for (const NamedLinear& layer : input.readers) {
        if (layer.name == reader) return input;
      }
    }
    throw std::runtime_error("no input of " + reader);
  }

  FluxTransformer model_{test::small_flux_config()};
  std::vector<ProducedInput> inputs_ = produced_inputs(*model_);
};

TEST_F(ProducedInputs, CoverEveryInputOfTheRecipe) {
  std::map<std::string, std::set<std::string>> readers;  // by input group
  for (const ProducedInput& input : inputs_) {
    for (const NamedLinear& layer : input.readers) {
      readers[input_group(layer.name)].insert(layer.name);
    }
  }
  for (const InputGroup& group : input_groups(*model_, in_paper_flux_recipe)) {
    std::set<std::string> names;
    for (const NamedLinear& layer : group.layers) names.insert(layer.name);
    EXPECT_EQ(readers[group.name], names) << group.name;
  }
}

TEST_F(ProducedInputs, RowsFitTheirLayersAndFillTheInput) {
  ASSERT_EQ(inputs_.size(), 9U);
  for (const ProducedInput& input : inputs_) {
    std::int64_t filled = 0;
    for (const ProducedChannels& channels : input.channels) {
      EXPECT_EQ(channels.count % channels.order_block, 0);
      EXPECT_FALSE(channels.rows.empty());
      for (const ProducerRows& rows : channels.rows) {
        EXPECT_LE(rows.first + channels.count, rows.layer.linear->out_features());
      }
      filled += channels.count;
    }
    for (const NamedLinear& reader : input.readers) {
      EXPECT_EQ(filled, reader.linear->in_features()) << reader.name;
    }
  }
}

TEST_F(ProducedInputs, BothOutputProjectionsReadBothStreamsValues) {
  const ProducedInput& attended = of("transformer_blocks.0.attn.to_out.0");
  EXPECT_EQ(attended.readers.size(), 2U);
  ASSERT_EQ(attended.channels.size(), 1U);
  EXPECT_EQ(attended.channels[0].rows.size(), 2U);
  EXPECT_EQ(attended.channels[0].order_block, 16);  // a head
}

TEST_F(ProducedInputs, FactorsPassEverythingButAGelu) {
  for (const char* reader : {"transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_out.0",
                             "transformer_blocks.0.ff_context.net.0.proj"}) {
    EXPECT_TRUE(of(reader).channels[0].takes_scale) << reader;
  }
  EXPECT_FALSE(of("transformer_blocks.0.ff.net.2").channels[0].takes_scale);
  const ProducedInput& joined = of("single_transformer_blocks.0.proj_out");
  ASSERT_EQ(joined.channels.size(), 2U);
  EXPECT_TRUE(joined.channels[0].takes_scale);
  EXPECT_FALSE(joined.channels[1].takes_scale);
}

}  // namespace
}  // namespace rtlynx
