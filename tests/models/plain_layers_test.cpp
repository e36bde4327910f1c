// SPDX-License-Identifier: Apache-2.0
#include "models/plain_layers.h"

#include <gtest/gtest.h>

#include <limits>

#include "refusal.h"

namespace rtlynx {
namespace {

TEST(PlainLayers, ATokenTableStaysOnTheCpuAndChecksIds) {
  TokenTable table(5, 2, torch::TensorOptions().dtype(torch::kBFloat16));
  torch::NoGradGuard no_grad;
  table->weight.copy_(torch::arange(10).reshape({5, 2}));
  EXPECT_TRUE(table->weight.device().is_cpu());
  const torch::Tensor rows = table(torch::tensor({{4, 0}}, torch::kInt64));
  EXPECT_TRUE(rows.equal(torch::tensor({{{8, 9}, {0, 1}}}).to(torch::kBFloat16)));
  EXPECT_EQ(refusal([&] { table(torch::tensor({5}, torch::kInt64)); }),
            "token table: required ids from 0 to 4, got 5 to 5");
  EXPECT_EQ(refusal([&] {
              table(torch::tensor({2, -1}, torch::kInt64));
            }),
            "token table: required ids from 0 to 4, got -1 to 2");
}

TEST(PlainLayers, RmsNormRoundsBeforeTheWeight) {
  const torch::NoGradGuard no_grad;
  PlainRmsNorm norm(4, 1e-6, torch::TensorOptions().dtype(torch::kBFloat16));
  norm->weight.fill_(1.0078125);  // the bf16 number after 1
  const torch::Tensor x = torch::tensor({1.0f, 2.0f, 3.0f, 5.0f}).to(torch::kBFloat16);
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor rounded =
      (wide / torch::sqrt(wide.square().mean() + 1e-6)).to(torch::kBFloat16);
  EXPECT_TRUE(norm(x).equal(rounded * norm->weight));
}

TEST(PlainLayers, ValuesThatAreNotFiniteNameTheStage) {
  EXPECT_EQ(refusal([] { require_finite(torch::ones({3}), "decoder"); }), "accepted");
  const torch::Tensor bad = torch::tensor({1.0f, std::numeric_limits<float>::quiet_NaN()});
  EXPECT_EQ(refusal([&] { require_finite(bad, "decoder"); }),
            "decoder: required finite values, got infinity or NaN");
}

}  // namespace
}  // namespace rtlynx
