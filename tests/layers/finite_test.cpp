// SPDX-License-Identifier: Apache-2.0
#include "layers/finite.h"

#include <gtest/gtest.h>

#include <limits>

#include "refusal.h"

namespace rtlynx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string complaint(const torch::Tensor& values) {
  return refusal([&] { require_finite(values, "x"); });
}

TEST(RequireFinite, NamesTheFirstPlace) {
  torch::Tensor values = torch::zeros({4, 6});
  EXPECT_EQ(complaint(values), "accepted");
  values[3][5] = -kInfinity;
  EXPECT_EQ(complaint(values),
            "x: required finite values, got -infinity at [3, 5], 1 such among 24");
  values[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(complaint(values), "x: required finite values, got NaN at [1, 2], 2 such among 24");
}

TEST(RequireFinite, TakesEveryFloatingPointType) {
  for (const auto type : {torch::kFloat64, torch::kFloat16, torch::kBFloat16}) {
    EXPECT_EQ(complaint(torch::ones({2}, type)), "accepted");
    EXPECT_NE(complaint(torch::full({2}, kInfinity, type)), "accepted");
  }
  EXPECT_EQ(complaint(torch::full({}, kInfinity)),
            "x: required finite values, got infinity at [], 1 such among 1");
}

TEST(RequireFinite, LeavesWhatCannotBeInfinite) {
  EXPECT_EQ(complaint({}), "accepted");
  EXPECT_EQ(complaint(torch::ones({3}, torch::kInt64)), "accepted");
  EXPECT_EQ(complaint(torch::ones({0, 4})), "accepted");
}

TEST(RequireFinite, TakesNumbers) {
  EXPECT_EQ(refusal([] { require_finite(1.5, "loss"); }), "accepted");
  EXPECT_EQ(refusal([] { require_finite(std::numeric_limits<double>::quiet_NaN(), "loss"); }),
            "loss: required a finite value, got NaN");
}

}  // namespace
}  // namespace rtlynx
