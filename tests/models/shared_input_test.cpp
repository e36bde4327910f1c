// SPDX-License-Identifier: Apache-2.0
#include "models/shared_input.h"

#include <gtest/gtest.h>

#include <map>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

TEST(SharedInput, ListsTheWantedLayersByGroup) {
  const FluxTransformer model(test::small_flux_config());
  const auto inputs = shared_inputs(*model, model->groups(), paper_layers(model->groups()));
  ASSERT_EQ(inputs.size(), 7U);
  const auto names = input_names(model->groups());
  std::size_t layers = 0;
  for (const SharedInput& input : inputs) {
    layers += input.layers.size();
    for (const NamedLinear& layer : input.layers) {
      EXPECT_EQ(names.at(layer.name), input.name);
      EXPECT_EQ(layer.linear->in_features(), input.channels());
    }
  }
  EXPECT_EQ(layers, 14U);
}

TEST(SharedInput, LeavesOutWhatIsNotWanted) {
  const FluxTransformer model(test::small_flux_config());
  const auto inputs = shared_inputs(*model, model->groups(), [](const std::string& layer) {
    return layer == "transformer_blocks.0.attn.to_k";
  });
  ASSERT_EQ(inputs.size(), 1U);
  EXPECT_EQ(inputs.front().name, "transformer_blocks.0.attn.to_qkv");
  ASSERT_EQ(inputs.front().layers.size(), 1U);
}

// The model itself is the judge: layers of one group get the same tensor, others get another.
TEST(SharedInput, IsWhatTheModelDoes) {
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
  const LayerFilter in_paper = paper_layers(model->groups());
  const auto groups = input_names(model->groups());
  for (const auto& [name, linear] : named_linears(*model)) {
    if (!in_paper(name)) continue;
    ASSERT_TRUE(input_of.contains(name)) << name;
    const auto [known, is_new] = input_of_group.emplace(groups.at(name), input_of[name]);
    EXPECT_EQ(known->second, input_of[name]) << name;
  }
  EXPECT_EQ(input_of_group.size(), 7U);  // 2 streams x (qkv, up, down), and one single block
}

}  // namespace
}  // namespace rtlynx
