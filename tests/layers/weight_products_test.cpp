// SPDX-License-Identifier: Apache-2.0
#include "layers/weight_products.h"

#include <gtest/gtest.h>

#include <vector>

#include "layers/input_group.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kChannels = 256;

/// Every fourth pair of W [N, K] kept, and a low rank of `rank`.
Replacement pruned(std::int64_t outputs, std::int64_t rank) {
  const torch::Tensor weight = torch::randn({outputs, kChannels}) / 16;
  const torch::Tensor kept = std::get<0>(ops::sparsify24(weight, /*norm=*/false));
  Replacement replacement{.weight = kept, .sparse = true};
  if (rank > 0) {
    replacement.down = torch::randn({rank, kChannels}) / 16;
    replacement.up = torch::randn({outputs, rank}) / 8;
  }
  return replacement;
}

SparseLinear layer_of(const Replacement& replacement, const torch::TensorOptions& options) {
  SparseLinear layer(kChannels, replacement.weight.size(0), options);
  const torch::NoGradGuard no_grad;
  layer->weight.zero_();  // nothing reads it
  layer->bias.copy_(torch::randn({layer->out_features()}));
  layer->set_replacement(replacement);
  layer->set_mode(LinearMode::replaced);
  return layer;
}

TEST(WeightProductsTest, NoKernelTakesALayerOnTheCpu) {
  torch::manual_seed(1);
  WeightProducts products;
  EXPECT_FALSE(products.add(0, pruned(64, 16), {}, ops::Activation::none));
  EXPECT_TRUE(products.empty());
  EXPECT_TRUE(products.members().empty());
}

/// Relative to the largest element.
double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

// As many layers as do not go into one product, of several ranks, and one that is dense.
TEST(WeightProductsTest, OnGpuAGroupIsWhatItsLayersAreByThemselves) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  torch::manual_seed(2);
  const torch::NoGradGuard no_grad;
  const auto options = torch::TensorOptions().dtype(torch::kBFloat16).device(torch::kCUDA);
  std::vector<SparseLinear> layers;
  std::vector<ops::Activation> activations;
  for (const auto& [outputs, rank] : {std::pair<std::int64_t, std::int64_t>{264, 24},
                                      {8, 24},
                                      {520, 24},
                                      {128, 24},
                                      {136, 24},
                                      {72, 0},
                                      {12, 16}}) {  // 12: no kernel takes it
    layers.push_back(layer_of(pruned(outputs, rank), options));
    activations.push_back(layers.size() % 2 == 0 ? ops::Activation::gelu : ops::Activation::none);
  }
  layers.push_back(SparseLinear(kChannels, 32, options));
  layers.back()->weight.normal_(0, 0.1);
  layers.back()->bias.normal_();
  activations.push_back(ops::Activation::none);
  const InputGroup group(layers, activations);
  for (const std::int64_t tokens : {WeightProducts::kLeastTokens - 1, std::int64_t{1100}}) {
    SCOPED_TRACE(tokens);
    const torch::Tensor x = torch::randn({1, tokens, kChannels}, options);
    // One result goes where the caller wants it, into rows that lie apart.
    std::vector<torch::Tensor> out(layers.size());
    out[2] = torch::full({1, tokens, 600}, 7, options).narrow(2, 40, 520);
    std::vector<torch::Tensor> largest(layers.size());
    largest[0] = torch::zeros({1, tokens}, options.dtype(torch::kFloat32));
    const std::vector<torch::Tensor> results = group.forward({.x = x}, out, largest);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      SCOPED_TRACE(i);
      torch::Tensor expected = layers[i]->forward(x).to(torch::kFloat32);
      if (activations[i] == ops::Activation::gelu) expected = torch::gelu(expected, "tanh");
      EXPECT_LT(distance(results[i].to(torch::kFloat32), expected), 0.02);
    }
    EXPECT_TRUE(results[2].is_same(out[2]));
    EXPECT_TRUE(torch::equal(largest[0], results[0].abs().amax(-1).to(torch::kFloat32)));
  }
}

}  // namespace
}  // namespace rtlynx
