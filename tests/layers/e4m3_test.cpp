// SPDX-License-Identifier: Apache-2.0
#include "layers/e4m3.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "layers/input_group.h"
#include "layers/keep_two_of_four.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kChannels = 128;

double relative_distance(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

SparseLinear layer_with(const Compensation24& compensation, std::int64_t outputs) {
  const torch::NoGradGuard no_grad;
  SparseLinear linear(kChannels, outputs, torch::TensorOptions());
  linear->weight.normal_(0, 0.05);
  linear->bias.normal_();
  linear->set_compensation(compensation);
  linear->set_mode(LinearMode::compensated);
  return linear;
}

Compensation24 low_rank(std::int64_t outputs) {
  return {.down = 0.1 * torch::randn({16, kChannels}), .up = 0.1 * torch::randn({outputs, 16})};
}

TEST(E4m3Unit, IsTheLeastPowerOfTwoThatFits) {
  for (const double largest : {447.0, 448.0, 449.0, 1.0, 3e-5}) {
    const double unit = e4m3_unit({torch::full({2, 3}, -largest), torch::zeros({1, 3})});
    EXPECT_EQ(std::exp2(std::round(std::log2(unit))), unit);
    EXPECT_LE(largest / unit, 448.0);
    EXPECT_GT(largest / (unit / 2), 448.0);
  }
  EXPECT_EQ(e4m3_unit({torch::zeros({2, 3})}), 1.0);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(e4m3_unit({torch::full({1, 1}, infinity)})));
}

// Both operands are rounded to 4 bits: the error of a product of n such terms is about 3.7 percent,
// and that of 16-bit operands far below. Seen from the same choice of channels, computed in fp64.
TEST(E4m3Layer, RoundsTheKeptValuesAndTheWeightAndNothingElse) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(3);
  Compensation24 compensation = low_rank(48);
  compensation.e4m3 = true;
  SparseLinear linear = layer_with(compensation, 48);
  const torch::Tensor x = torch::randn({2, 9, kChannels});
  const torch::Tensor y = linear(x);

  const auto rounded = [](const torch::Tensor& values, const torch::Tensor& largest) {
    const torch::Tensor unit = torch::exp2(torch::ceil(torch::log2(largest / 448)));
    return (values / unit).to(torch::kFloat8_e4m3fn).to(torch::kFloat64) * unit;
  };
  const torch::Tensor kept = test::keep_two_of_four(x);
  const torch::Tensor s = x.norm(2, {-1}, /*keepdim=*/true) / kept.norm(2, {-1}, /*keepdim=*/true);
  const torch::Tensor codes = rounded(kept, x.abs().amax(-1, /*keepdim=*/true));
  const torch::Tensor weight = rounded(linear->weight, linear->weight.abs().max());
  const torch::Tensor residual = x.to(torch::kFloat64)
                                     .matmul(compensation.down.t().to(torch::kFloat64))
                                     .matmul(compensation.up.t().to(torch::kFloat64));
  const torch::Tensor expected = s.to(torch::kFloat64) * codes.matmul(weight.t()) + residual +
                                 linear->bias.to(torch::kFloat64);
  EXPECT_LT(relative_distance(y.to(torch::kFloat64), expected), 1e-5);
  const torch::Tensor unrounded = s * kept.matmul(linear->weight.t()) + residual + linear->bias;
  EXPECT_GT(relative_distance(y, unrounded.to(torch::kFloat32)), 1e-3);
}

// A group shares a unit; by powers of two each layer's codes are its own all the same.
TEST(E4m3Group, GivesWhatItsLayersGive) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(4);
  const torch::Tensor random = torch::randn({kChannels / 64, 64, 64});
  const torch::Tensor blocks = std::get<0>(torch::linalg_qr(random));
  std::vector<SparseLinear> layers;
  for (const std::int64_t outputs : {48, 16, 80}) {
    Compensation24 compensation = low_rank(outputs);
    compensation.transform.blocks = blocks;
    compensation.e4m3 = true;
    layers.push_back(layer_with(compensation, outputs));
  }
  layers[1]->weight.mul_(30);  // another unit of its own
  layers[1]->set_compensation(*layers[1]->compensation());
  const torch::Tensor x = torch::randn({2, 7, kChannels});
  const std::vector<torch::Tensor> together = InputGroup(layers).forward({.x = x});
  for (std::size_t i = 0; i < layers.size(); ++i) {
    EXPECT_LT(relative_distance(together[i], layers[i](x)), 1e-5) << i;
  }
}

TEST(E4m3Group, WantsOneTypeOfAllLayers) {
  Compensation24 narrow = low_rank(16);
  narrow.e4m3 = true;
  EXPECT_THAT(
      [&] {
        InputGroup({layer_with(low_rank(16), 16), layer_with(narrow, 16)});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("one transform, norm and type")));
}

TEST(E4m3Layer, AWeightThatIsNotFiniteIsRefused) {
  const torch::NoGradGuard no_grad;
  Compensation24 compensation = low_rank(16);
  compensation.e4m3 = true;
  SparseLinear linear = layer_with(compensation, 16);
  linear->weight[3][5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(
      [&] {
        linear(torch::randn({1, 2, kChannels}));
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("weight unit above 0")));
}

}  // namespace
}  // namespace rtlynx
