// SPDX-License-Identifier: Apache-2.0
#include "layers/attention.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

TEST(Rotary, TurnsAdjacentChannelsByPositionTimesFrequency) {
  // One axis of 4 channels: frequencies 1 and 10000^(-1/2) = 0.01.
  const torch::Tensor ids = torch::tensor({{0.0}, {2.0}});
  const torch::Tensor table = rotary_table(ids, {4}, 10000);
  const torch::Tensor x =
      torch::tensor({1.0, 0.0, 0.0, 1.0}).view({1, 1, 1, 4}).repeat({1, 2, 1, 1});
  const torch::Tensor y = apply_rotary(x.to(torch::kFloat32), table);
  const torch::Tensor second = torch::tensor(
      {std::cos(2.0), std::sin(2.0), -std::sin(0.02), std::cos(0.02)}, torch::kFloat32);
  EXPECT_TRUE(y[0][0][0].allclose(torch::tensor({1.0F, 0.0F, 0.0F, 1.0F})));
  EXPECT_TRUE(y[0][1][0].allclose(second, 1e-6, 1e-7));
}

TEST(Rotary, KeepsNorms) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({2, 6, 3, 16});
  const torch::Tensor table = rotary_table(torch::rand({6, 3}) * 50, {4, 6, 6}, 10000);
  EXPECT_TRUE(apply_rotary(x, table).norm(2, {-1}).allclose(x.norm(2, {-1}), 1e-5, 1e-6));
}

TEST(Rotary, ScoresDependOnTheDistanceAlone) {
  torch::manual_seed(2);
  const torch::Tensor q = torch::randn({1, 1, 1, 8}), k = torch::randn({1, 1, 1, 8});
  const auto score = [&](double a, double b) {
    const auto at = [](double p) { return rotary_table(torch::full({1, 1}, p), {8}, 10000); };
    return (apply_rotary(q, at(a)) * apply_rotary(k, at(b))).sum().item<double>();
  };
  EXPECT_NEAR(score(3, 1), score(12, 10), 1e-4);
  EXPECT_GT(std::abs(score(3, 1) - score(3, 2)), 1e-3);
}

TEST(Rotary, RefusesIdsOfOtherAxes) {
  EXPECT_THROW(rotary_table(torch::zeros({4, 2}), {4, 6, 6}, 10000), Error);
}

TEST(RmsNormLayer, DividesByTheRootMeanSquare) {
  RmsNorm norm(4, torch::TensorOptions());
  const torch::NoGradGuard no_grad;
  norm->weight.copy_(torch::tensor({1.0F, 2.0F, 1.0F, 1.0F}));
  const torch::Tensor y = norm(torch::tensor({{3.0F, 1.0F, -1.0F, 1.0F}}));
  const float rms = std::sqrt(3.0F);
  EXPECT_TRUE(y.allclose(torch::tensor({{3 / rms, 2 / rms, -1 / rms, 1 / rms}}), 1e-5, 1e-6));
}

TEST(Attend, EqualKeysAverageTheValues) {
  torch::manual_seed(3);
  const torch::Tensor q = torch::randn({1, 5, 2, 8});
  const torch::Tensor k = torch::zeros({1, 5, 2, 8});
  const torch::Tensor v = torch::randn({1, 5, 2, 8});
  const torch::Tensor out = attend(q, k, v, rotary_table(torch::zeros({5, 1}), {8}, 10000));
  ASSERT_EQ(out.sizes(), (std::vector<std::int64_t>{1, 5, 16}));
  EXPECT_TRUE(out.allclose(v.mean(1, true).flatten(2).expand({1, 5, 16}), 1e-5, 1e-6));
}

}  // namespace
}  // namespace rtlynx
