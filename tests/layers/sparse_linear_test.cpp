// SPDX-License-Identifier: Apache-2.0
#include "layers/sparse_linear.h"

#include <gtest/gtest.h>

#include <vector>

#include "layers/keep_two_of_four.h"
#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 32;
constexpr std::int64_t kOut = 12;

SparseLinear random_linear() {
  torch::manual_seed(7);
  const torch::NoGradGuard no_grad;
  SparseLinear linear(kIn, kOut);
  linear->weight.normal_();
  linear->bias.normal_();
  return linear;
}

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  return ((value - reference).norm() / reference.norm()).item<double>();
}

class Modes : public testing::Test {
 protected:
  SparseLinear linear_ = random_linear();
  torch::Tensor x_ = torch::randn({3, 5, kIn});
  torch::Tensor kept_ = test::keep_two_of_four(x_);
  torch::Tensor scale_ = x_.norm(2, {-1}, true) / kept_.norm(2, {-1}, true);

  torch::Tensor run(LinearMode mode) {
    const torch::NoGradGuard no_grad;
    linear_->set_mode(mode);
    return linear_(x_);
  }
  torch::Tensor times_weight(const torch::Tensor& x) {
    return torch::linear(x, linear_->weight, linear_->bias).detach();
  }
};

TEST_F(Modes, DenseIsTorchLinear) { EXPECT_TRUE(run(LinearMode::dense).equal(times_weight(x_))); }

TEST_F(Modes, NaiveDropsHalf) {
  EXPECT_LE(relative_error(run(LinearMode::naive), times_weight(kept_)), 1e-6);
}

TEST_F(Modes, NormRestoresTheTokensNorm) {
  EXPECT_LE(relative_error(run(LinearMode::norm), times_weight(scale_ * kept_)), 1e-6);
}

Compensation24 with_low_rank(std::int64_t rank) {
  Compensation24 compensation;
  compensation.down = torch::randn({rank, kIn});
  compensation.up = torch::randn({kOut, rank});
  return compensation;
}

TEST_F(Modes, LowRankReadsTheWholeInput) {
  const Compensation24 low_rank = with_low_rank(4);
  linear_->set_compensation(low_rank);
  const torch::Tensor residual = torch::linear(torch::linear(x_, low_rank.down), low_rank.up);
  EXPECT_LE(relative_error(run(LinearMode::compensated), times_weight(scale_ * kept_) + residual),
            1e-6);
}

TEST_F(Modes, RefittedWeightsMultiplyWhatWasKept) {
  Compensation24 refitted;
  refitted.norm = false;
  refitted.weight = torch::randn({kOut, kIn});
  linear_->set_compensation(refitted);
  const torch::Tensor wanted = torch::linear(kept_, refitted.weight, linear_->bias).detach();
  EXPECT_LE(relative_error(run(LinearMode::compensated), wanted), 1e-6);
}

TEST_F(Modes, ChoiceAndLowRankReadTheTransformedInput) {
  Compensation24 compensation = with_low_rank(4);
  compensation.transform.blocks = std::get<0>(torch::linalg_qr(torch::randn({kIn / 8, 8, 8})));
  compensation.weight = compensation.transform.weight_for_z(linear_->weight);
  linear_->set_compensation(compensation);
  const torch::Tensor z = compensation.transform.apply(x_);
  const torch::Tensor kept = test::keep_two_of_four(z);
  const torch::Tensor scale = z.norm(2, {-1}, true) / kept.norm(2, {-1}, true);
  const torch::Tensor wanted =
      torch::linear(scale * kept, compensation.weight.to(torch::kFloat32), linear_->bias) +
      torch::linear(torch::linear(z, compensation.down), compensation.up);
  EXPECT_LE(relative_error(run(LinearMode::compensated), wanted.detach()), 1e-6);
}

TEST_F(Modes, ATransformWithoutAWeightBringsTheLayersOwn) {
  for (const bool blocks : {true, false}) {
    Compensation24 compensation = with_low_rank(4);
    if (blocks) {
      compensation.transform.blocks = torch::randn({kIn / 8, 8, 8});  // not orthogonal
    } else {
      compensation.transform.scale = torch::rand({kIn}) + 0.5;
      compensation.transform.permutation = torch::randperm(kIn);
    }
    linear_->set_compensation(compensation);
    const torch::Tensor derived = run(LinearMode::compensated);
    compensation.weight = compensation.transform.weight_for_z(linear_->weight);
    linear_->set_compensation(compensation);
    EXPECT_TRUE(run(LinearMode::compensated).equal(derived)) << blocks;
  }
}

TEST_F(Modes, AReplacementIsDense) {
  const torch::Tensor other = torch::randn({kOut, kIn});
  linear_->set_replacement({.weight = torch::zeros({kOut, kIn})});
  linear_->set_replacement({.weight = other});  // takes the first one's place
  EXPECT_TRUE(run(LinearMode::replaced).equal(torch::linear(x_, other, linear_->bias).detach()));
}

TEST_F(Modes, AReplacementMayBringItsBias) {
  const torch::Tensor other = torch::randn({kOut, kIn}), bias = torch::randn({kOut});
  linear_->set_replacement({.weight = other, .bias = bias});
  EXPECT_TRUE(run(LinearMode::replaced).equal(torch::linear(x_, other, bias).detach()));
  linear_->set_replacement({.weight = other});  // and takes it away
  EXPECT_TRUE(run(LinearMode::replaced).equal(torch::linear(x_, other, linear_->bias).detach()));
}

TEST_F(Modes, ACompensationMayBringItsBias) {
  Compensation24 compensation = with_low_rank(2);
  linear_->set_compensation(compensation);
  const torch::Tensor with_own = run(LinearMode::compensated) - linear_->bias.detach();
  compensation.bias = torch::randn({kOut});
  linear_->set_compensation(compensation);
  EXPECT_TRUE(run(LinearMode::compensated).allclose(with_own + compensation.bias, 1e-5, 1e-5));
  EXPECT_TRUE(run(LinearMode::dense).equal(times_weight(x_)));
}

TEST_F(Modes, TheWeightStaysAsItIs) {
  const torch::Tensor before = linear_->weight.detach().clone();
  Compensation24 compensation = with_low_rank(2);
  compensation.weight = torch::randn({kOut, kIn});
  linear_->set_compensation(compensation);
  linear_->set_replacement({.weight = torch::randn({kOut, kIn})});
  run(LinearMode::compensated);
  EXPECT_TRUE(linear_->weight.equal(before));
  EXPECT_EQ(linear_->named_parameters().size(), 2U);  // what a checkpoint holds
  EXPECT_TRUE(run(LinearMode::dense).equal(times_weight(x_)));
}

TEST_F(Modes, CompensationFollowsTheModuleToAnotherType) {
  linear_->set_compensation(with_low_rank(4));
  Compensation24 second = with_low_rank(2);  // takes the first one's place
  second.weight = torch::randn({kOut, kIn});
  second.transform.permutation = torch::randperm(kIn);
  linear_->set_compensation(second);
  EXPECT_EQ(linear_->compensation()->rank(), 2);
  linear_->to(torch::kBFloat16);
  x_ = x_.to(torch::kBFloat16);
  EXPECT_EQ(run(LinearMode::compensated).scalar_type(), torch::kBFloat16);
  EXPECT_EQ(linear_->compensation()->down.scalar_type(), torch::kBFloat16);
}

TEST_F(Modes, GradientsFlowThroughTheDenseMode) {
  linear_->set_mode(LinearMode::dense);
  linear_(x_).sum().backward();
  EXPECT_EQ(linear_->weight.grad().sizes(), linear_->weight.sizes());
}

TEST_F(Modes, GradientsReachWhatIsTrained) {
  linear_->set_compensation(with_low_rank(4));
  const Compensation24& trained = *linear_->compensation();
  trained.down.requires_grad_();
  trained.up.requires_grad_();
  linear_->set_mode(LinearMode::compensated);
  x_.requires_grad_();
  const torch::Tensor y = linear_(x_);
  EXPECT_LE(relative_error(y.detach(), run(LinearMode::compensated)), 1e-6);
  y.sum().backward();
  for (const torch::Tensor& tensor : {x_, trained.down, trained.up, linear_->bias}) {
    ASSERT_TRUE(tensor.grad().defined());
    EXPECT_GT(tensor.grad().norm().item<double>(), 0);
  }
}

TEST(SparseLinearErrors, SayWhatIsMissing) {
  SparseLinear odd(6, 4);
  EXPECT_EQ(refusal([&] { odd->set_mode(LinearMode::norm); }),
            "SparseLinear: required input channels divisible by 16 for a 2:4 mode, got 6");
  EXPECT_EQ(refusal([&] { odd->set_mode(LinearMode::dense); }), "accepted");
  SparseLinear linear = random_linear();
  EXPECT_NE(refusal([&] { linear->set_mode(LinearMode::compensated); }).find("set_compensation"),
            std::string::npos);
  EXPECT_NE(refusal([&] { linear->set_mode(LinearMode::replaced); }).find("set_replacement"),
            std::string::npos);
  EXPECT_EQ(refusal([&] {
              linear->set_replacement({.weight = torch::zeros({kIn, kOut})});
            }),
            "Replacement: required a weight [12, 32], got [32, 12]");
  EXPECT_EQ(
      refusal([&] {
        linear->set_replacement({.weight = torch::zeros({kOut, kIn}), .bias = torch::zeros({1})});
      }),
      "Replacement: required a bias [12], got [1]");
  Compensation24 narrow;
  narrow.weight = torch::zeros({kOut, kIn / 2});
  EXPECT_EQ(refusal([&] { linear->set_compensation(narrow); }),
            "Compensation24: required a weight [12, 32], got [12, 16]");
  narrow.weight = torch::Tensor();
  narrow.bias = torch::zeros({kIn});
  EXPECT_EQ(refusal([&] { linear->set_compensation(narrow); }),
            "Compensation24: required a bias [12], got [32]");
}

TEST(SparseLinearObserver, SeesEveryInputUntilItIsRemoved) {
  SparseLinear linear = random_linear();
  const torch::Tensor x = torch::randn({2, kIn});
  std::vector<torch::Tensor> seen;
  linear->set_observer([&](const torch::Tensor& input) { seen.push_back(input); });
  linear(x);
  linear->set_mode(LinearMode::norm);
  linear(x);
  linear->set_observer({});
  linear(x);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_TRUE(seen[0].equal(x) && seen[1].equal(x));
}

TEST(SparseLinearErrors, NameTheOperatorThatIsCalled) {
  const torch::NoGradGuard no_grad;
  SparseLinear linear = random_linear();
  linear->set_mode(LinearMode::norm);
  const torch::Tensor narrow = torch::zeros({2, kIn / 2});
  EXPECT_EQ(refusal([&] { linear(narrow); }).rfind("linear24: required", 0), 0u);
}

TEST(LinearModeNames, GoThereAndBack) {
  for (const auto mode : {LinearMode::dense, LinearMode::naive, LinearMode::norm,
                          LinearMode::compensated, LinearMode::replaced}) {
    EXPECT_EQ(linear_mode_from_string(to_string(mode)), mode);
  }
  EXPECT_THROW(linear_mode_from_string("fast"), UsageError);
}

}  // namespace
}  // namespace rtlynx
