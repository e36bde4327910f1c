// SPDX-License-Identifier: Apache-2.0
#include "models/input_group.h"

#include <gtest/gtest.h>

#include <map>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

TEST(InputGroup, ProjectionsOfAStreamShareOne) {
  EXPECT_EQ(input_group("transformer_blocks.2.attn.to_k"), "transformer_blocks.2.attn.to_qkv");
  EXPECT_EQ(input_group("transformer_blocks.2.attn.add_v_proj"),
            "transformer_blocks.2.attn.to_added_qkv");
  EXPECT_EQ(input_group("single_transformer_blocks.11.proj_mlp"),
            "single_transformer_blocks.11.to_qkv_mlp");
  EXPECT_EQ(input_group("single_transformer_blocks.11.attn.to_q"),
            "single_transformer_blocks.11.to_qkv_mlp");
}

TEST(InputGroup, OtherLayersReadTheirOwn) {
  for (const char* name : {"transformer_blocks.0.ff.net.2", "transformer_blocks.0.attn.to_out.0",
                           "single_transformer_blocks.0.proj_out", "proj_out", "x_embedder"}) {
    EXPECT_EQ(input_group(name), name);
  }
}

TEST(InputGroup, ListsTheWantedLayersByInput) {
  const FluxTransformer model(test::small_flux_config());
  const auto groups = input_groups(*model, in_paper_flux_recipe);
  ASSERT_EQ(groups.size(), 7U);
  std::size_t layers = 0;
  for (const InputGroup& group : groups) {
    layers += group.layers.size();
    for (const NamedLinear& layer : group.layers) {
      EXPECT_EQ(input_group(layer.name), group.name);
      EXPECT_EQ(layer.linear->in_features(), group.channels());
    }
  }
  EXPECT_EQ(layers, 14U);
}

TEST(InputGroup, OnlyTheMlpMayReorderItsInput) {
  EXPECT_TRUE(input_order_is_free("transformer_blocks.0.ff_context.net.2"));
  EXPECT_TRUE(input_order_is_free("layers.3.feed_forward.w2"));
  EXPECT_FALSE(input_order_is_free("layers.3.feed_forward.w1"));
  EXPECT_FALSE(input_order_is_free("transformer_blocks.0.ff.net.0.proj"));
  EXPECT_FALSE(input_order_is_free("single_transformer_blocks.0.proj_out"));
}

// The model itself is the judge: layers of one group get the same tensor, others get another.
TEST(InputGroup, IsWhatTheModelDoes) {
  FluxTransformer model(test::small_flux_config());
  std::map<std::string, const void*> input_of;
  for (auto& [name, linear] : named_linears(*model)) {
    linear->set_observer([&input_of, layer = name](const torch::Tensor& x) {
      input_of[layer] = x.const_data_ptr();
    });
  }
  const torch::NoGradGuard no_grad;
  model->forward({.hidden_states = torch::randn({1, 4, 8}),
                  .encoder_hidden_states = torch::randn({1, 3, 12}),
                  .pooled_projections = torch::randn({1, 12}),
                  .timestep = torch::ones({1}),
                  .guidance = {},
                  .img_ids = torch::zeros({4, 3}),
                  .txt_ids = torch::zeros({3, 3})});
  std::map<std::string, const void*> input_of_group;
  for (const auto& [name, linear] : named_linears(*model)) {
    if (!in_paper_flux_recipe(name)) continue;
    ASSERT_TRUE(input_of.contains(name)) << name;
    const auto [known, is_new] = input_of_group.emplace(input_group(name), input_of[name]);
    EXPECT_EQ(known->second, input_of[name]) << name;
  }
  EXPECT_EQ(input_of_group.size(), 7U);  // 2 streams x (qkv, up, down), and one single block
}

}  // namespace
}  // namespace rtlynx
