// SPDX-License-Identifier: Apache-2.0
#include "compensate/second_moment.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "compensate/small_layer.h"

namespace rtlynx {
namespace {

TEST(SecondMoment, GivesErrorsOverTheTokensBehindIt) {
  const test::SmallLayer layer(6, 8);
  const torch::Tensor other = layer.weight + torch::randn_like(layer.weight);
  EXPECT_NEAR(output_energy(layer.weight - other, layer.moment), layer.output_error(other), 1e-9);
  const torch::Tensor outputs = layer.tokens.matmul(layer.weight.t());
  const torch::Tensor changed = layer.tokens.matmul(other.t());
  EXPECT_NEAR(relative_output_error(layer.weight, other, layer.moment),
              ((changed - outputs).norm() / outputs.norm()).item<double>(), 1e-12);
  EXPECT_TRUE(channel_rms(layer.moment)
                  .allclose(layer.tokens.norm(2, {0}) /
                            std::sqrt(static_cast<double>(layer.tokens.size(0)))));
}

TEST(SecondMoment, NothingIsLostOfALayerWithoutOutput) {
  const torch::Tensor zero = torch::zeros({2, 4}, torch::kFloat64);
  EXPECT_EQ(relative_output_error(zero, zero, torch::eye(4, torch::kFloat64)), 0.0);
}

TEST(EffectiveRank, CountsEqualDirections) {
  const torch::Tensor three = torch::diag(torch::tensor({2.0, 2.0, 2.0, 0.0}, torch::kFloat64));
  EXPECT_NEAR(effective_rank(three), 3.0, 1e-12);
  EXPECT_NEAR(participation_ratio(three), 3.0, 1e-12);
}

TEST(EffectiveRank, IsTheFormula) {
  const torch::Tensor moment = torch::diag(torch::tensor({0.5, 0.25, 0.25}, torch::kFloat64)) * 8;
  EXPECT_NEAR(effective_rank(moment), std::exp(1.5 * std::log(2.0)), 1e-12);
  EXPECT_NEAR(participation_ratio(moment), 1 / (0.25 + 2 * 0.0625), 1e-12);
  EXPECT_EQ(effective_rank(torch::zeros({3, 3}, torch::kFloat64)), 0.0);
  EXPECT_EQ(participation_ratio(torch::zeros({3, 3}, torch::kFloat64)), 0.0);
  // What is not a number is not zero.
  const torch::Tensor broken = torch::full({3, 3}, NAN, torch::kFloat64);
  EXPECT_THROW(participation_ratio(broken), Error);
  EXPECT_THROW(relative_output_error(torch::ones({2, 3}), torch::zeros({2, 3}), broken), Error);
}

TEST(EffectiveRank, TurningChangesNothingAndRatioIsTheLower) {
  const test::SmallLayer layer(4, 12);
  const torch::Tensor turn = std::get<0>(torch::linalg_qr(torch::randn({12, 12}, torch::kFloat64)));
  const torch::Tensor turned = turn.t().matmul(layer.moment).matmul(turn);
  EXPECT_NEAR(effective_rank(turned), effective_rank(layer.moment), 1e-9);
  EXPECT_NEAR(participation_ratio(turned), participation_ratio(layer.moment), 1e-9);
  EXPECT_LE(participation_ratio(layer.moment), effective_rank(layer.moment));
}

std::string refusal(const torch::Tensor& weight, const torch::Tensor& moment) {
  try {
    check_moment("test", weight, moment);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SecondMomentErrors, SayWhatArrived) {
  const auto wide = torch::kFloat64;
  EXPECT_EQ(refusal(torch::zeros({2, 4}), torch::zeros({4, 4}, wide)), "accepted");
  EXPECT_EQ(refusal(torch::zeros({2, 4}), torch::zeros({4, 4})),
            "test: required a second moment [K, K] of fp64, got [4, 4] of Float on cpu");
  EXPECT_EQ(refusal(torch::zeros({2, 4}), {}),
            "test: required a second moment [K, K] of fp64, got none");
  EXPECT_EQ(refusal(torch::zeros({2, 4}), torch::zeros({5, 5}, wide)),
            "test: required a second moment [K, K] for the weight [2, 4] of Float on cpu, got [5, "
            "5] of Double on cpu");
  EXPECT_NE(refusal(torch::zeros({4}), torch::zeros({4, 4}, wide)), "accepted");
  EXPECT_NE(refusal(torch::zeros({2, 4}, torch::kInt), torch::zeros({4, 4}, wide)), "accepted");
  EXPECT_THROW(effective_rank(torch::zeros({3, 4}, wide)), Error);
}

}  // namespace
}  // namespace rtlynx
