// SPDX-License-Identifier: Apache-2.0
#include "study/compensation_cost.h"

#include <gtest/gtest.h>

namespace rtlynx {
namespace {

// Two image layers of one input, a text layer, and one that the paper leaves dense.
std::vector<LayerGroup> groups() {
  return {{.name = "qk",
           .stream = TokenStream::image,
           .channels = 64,
           .layers = {{.name = "q", .outputs = 32, .in_paper = true},
                      {.name = "k", .outputs = 32, .in_paper = true}}},
          {.name = "t",
           .stream = TokenStream::text,
           .channels = 64,
           .layers = {{.name = "t", .outputs = 64, .in_paper = true}}},
          {.name = "m", .channels = 64, .layers = {{.name = "m", .outputs = 640}}}};
}

constexpr StreamTokens kTokens{.image = 3, .text = 1};

TEST(ProductsByLayer, CountsTokensOfItsStream) {
  EXPECT_EQ(products_by_layer(groups(), kTokens),
            (std::map<std::string, double>{
                {"q", 3. * 64 * 32}, {"k", 3. * 64 * 32}, {"t", 1. * 64 * 64}}));
}

TEST(RelativeCost, OfModesIsThatOfTheirProducts) {
  EXPECT_EQ(relative_cost(LinearMode::dense), 1);
  EXPECT_EQ(relative_cost(LinearMode::naive), 0.5);
  EXPECT_EQ(relative_cost(LinearMode::norm), 0.5);
}

TEST(RelativeCost, WeighsLayersByTheirProducts) {
  ModelCompensation compensation;
  EXPECT_EQ(relative_cost(groups(), kTokens, compensation), 1);  // all stay dense
  compensation.layers["q"];
  EXPECT_DOUBLE_EQ(relative_cost(groups(), kTokens, compensation), 1 - 0.5 * 3 / 8);
  compensation.layers["k"];
  compensation.layers["t"];
  EXPECT_DOUBLE_EQ(relative_cost(groups(), kTokens, compensation), 0.5);
  compensation.layers["t"].values.down = torch::zeros({4, 64});
  compensation.layers["t"].values.up = torch::zeros({64, 4});
  EXPECT_DOUBLE_EQ(relative_cost(groups(), kTokens, compensation), 0.5 + 4. * 128 / 4096 / 4);
}

TEST(RelativeCost, SharesATransformAmongItsReaders) {
  ModelCompensation compensation;
  for (const char* layer : {"q", "k"}) {
    compensation.layers[layer].values.transform.blocks = torch::zeros({4, 16, 16});
  }
  // Of q and k together: half, and the blocks' 16 K once for 64 outputs.
  EXPECT_DOUBLE_EQ(relative_cost(groups(), kTokens, compensation),
                   0.75 * (0.5 + 16. / 64) + 0.25 * 1);
}

TEST(RelativeCost, CountsLayersThatAreLeftDenseAsDense) {
  struct Model : torch::nn::Module {
    explicit Model(bool text_is_sparse) {
      for (const char* name : {"q", "k", "t"}) {
        auto layer = register_module(name, SparseLinear(64, 64, torch::TensorOptions()));
        if (name != std::string("t") || text_is_sparse) layer->set_mode(LinearMode::norm);
      }
    }
  };
  const LayerCosts norm = relative_costs(groups(), LinearMode::norm);
  const auto cost = [&](const Model& model) {
    return relative_cost(groups(), kTokens, without_dense_layers(norm, model));
  };
  EXPECT_DOUBLE_EQ(cost(Model(/*text_is_sparse=*/true)), 0.5);
  EXPECT_DOUBLE_EQ(cost(Model(/*text_is_sparse=*/false)), 0.75 * 0.5 + 0.25);
}

}  // namespace
}  // namespace rtlynx
