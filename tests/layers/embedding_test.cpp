// SPDX-License-Identifier: Apache-2.0
#include "layers/embedding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "layers/modulation.h"

namespace rtlynx {
namespace {

TEST(SinusoidalEmbedding, HoldsCosinesThenSines) {
  // 4 channels: frequencies 1 and 10000^(-1/2) = 0.01.
  const torch::Tensor y = sinusoidal_embedding(torch::tensor({0.0F, 50.0F}), 4);
  const torch::Tensor wanted = torch::tensor(
      {{1.0, 1.0, 0.0, 0.0}, {std::cos(50.0), std::cos(0.5), std::sin(50.0), std::sin(0.5)}},
      torch::kFloat32);
  EXPECT_TRUE(y.allclose(wanted, 1e-5, 1e-5)) << y;
}

TEST(Modulate, ScalesAndShiftsPerImage) {
  const torch::Tensor x = torch::ones({2, 3, 4});
  const torch::Tensor scale = torch::stack({torch::zeros({4}), torch::ones({4})});
  const torch::Tensor shift = torch::stack({torch::ones({4}), torch::zeros({4})});
  EXPECT_TRUE(modulate(x, scale, shift).equal(torch::full({2, 3, 4}, 2.0)));
}

TEST(ModulationLayer, SplitsIntoParts) {
  Modulation modulation(4, 3, torch::TensorOptions());
  const torch::NoGradGuard no_grad;
  modulation->linear->weight.zero_();
  modulation->linear->bias.copy_(torch::arange(12));
  const auto parts = modulation(torch::randn({2, 4}));
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_TRUE(parts[1][0].equal(torch::tensor({4.0F, 5.0F, 6.0F, 7.0F})));
}

TEST(LayerNorm, IsZeroMeanAndUnitVariance) {
  torch::manual_seed(5);
  const torch::Tensor y = layer_norm(torch::randn({2, 3, 64}) * 5 + 2);
  EXPECT_LE(y.mean(-1).abs().max().item<float>(), 1e-5F);
  EXPECT_TRUE(y.var(-1, /*unbiased=*/false).allclose(torch::ones({2, 3}), 1e-4, 1e-4));
}

}  // namespace
}  // namespace rtlynx
