// SPDX-License-Identifier: Apache-2.0
#include "layers/sparse_linear.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

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

// The 2 largest of every 4 channels by sorting; random inputs have no ties.
torch::Tensor keep_two_of_four(const torch::Tensor& x) {
  const torch::Tensor groups = x.unflatten(-1, {-1, 4});
  const torch::Tensor top = std::get<1>(groups.abs().topk(2, /*dim=*/-1));
  const torch::Tensor mask = torch::zeros_like(groups).scatter(-1, top, 1.0);
  return (groups * mask).flatten(-2);
}

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  return ((value - reference).norm() / reference.norm()).item<double>();
}

class Modes : public testing::Test {
 protected:
  SparseLinear linear_ = random_linear();
  torch::Tensor x_ = torch::randn({3, 5, kIn});
  torch::Tensor kept_ = keep_two_of_four(x_);
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

TEST_F(Modes, LowRankReadsTheWholeInput) {
  const torch::Tensor down = torch::randn({4, kIn}), up = torch::randn({kOut, 4});
  linear_->set_low_rank(down, up);
  const torch::Tensor residual = torch::linear(torch::linear(x_, down), up);
  EXPECT_LE(relative_error(run(LinearMode::norm_low_rank), times_weight(scale_ * kept_) + residual),
            1e-6);
}

TEST_F(Modes, DenseWhereFasterChangesNothingOnTheCpu) {
  linear_->set_low_rank(torch::randn({4, kIn}), torch::randn({kOut, 4}));
  for (const LinearMode mode :
       {LinearMode::dense, LinearMode::naive, LinearMode::norm, LinearMode::norm_low_rank}) {
    linear_->set_dense_where_faster(false);
    const torch::Tensor expected = run(mode);
    linear_->set_dense_where_faster(true);
    EXPECT_TRUE(run(mode).equal(expected)) << to_string(mode);
  }
}

TEST_F(Modes, LowRankFollowsTheModuleToAnotherType) {
  linear_->set_low_rank(torch::randn({4, kIn}), torch::randn({kOut, 4}));
  linear_->set_low_rank(torch::randn({2, kIn}), torch::randn({kOut, 2}));  // replaces the first
  linear_->to(torch::kBFloat16);
  x_ = x_.to(torch::kBFloat16);
  EXPECT_EQ(run(LinearMode::norm_low_rank).scalar_type(), torch::kBFloat16);
}

TEST_F(Modes, GradientsFlowThroughTheDenseMode) {
  linear_->set_mode(LinearMode::dense);
  linear_(x_).sum().backward();
  EXPECT_EQ(linear_->weight.grad().sizes(), linear_->weight.sizes());
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SparseLinearErrors, SayWhatIsMissing) {
  SparseLinear odd(6, 4);
  EXPECT_EQ(refusal([&] { odd->set_mode(LinearMode::norm); }),
            "SparseLinear: required input channels divisible by 4 for a 2:4 mode, got 6");
  EXPECT_EQ(refusal([&] { odd->set_mode(LinearMode::dense); }), "accepted");
  SparseLinear linear = random_linear();
  EXPECT_NE(refusal([&] { linear->set_mode(LinearMode::norm_low_rank); }).find("set_low_rank"),
            std::string::npos);
  EXPECT_EQ(refusal([&] {
              linear->set_low_rank(torch::zeros({4, kIn}), torch::zeros({kOut, 5}));
            }),
            "SparseLinear: required down [r, 32] and up [12, r], got [4, 32] and [12, 5]");
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

// On the CPU the two operators agree; only their messages tell them apart.
TEST(SparseLinearErrors, NameTheOperatorThatIsCalled) {
  SparseLinear linear = random_linear();
  linear->set_mode(LinearMode::norm);
  const torch::Tensor narrow = torch::zeros({2, kIn / 2});
  EXPECT_EQ(refusal([&] { linear(narrow); }).rfind("linear24: required", 0), 0u);
  linear->set_dense_where_faster(true);
  EXPECT_EQ(refusal([&] { linear(narrow); }).rfind("linear24_auto: required", 0), 0u);
}

TEST(LinearModeNames, GoThereAndBack) {
  for (const auto mode :
       {LinearMode::dense, LinearMode::naive, LinearMode::norm, LinearMode::norm_low_rank}) {
    EXPECT_EQ(linear_mode_from_string(to_string(mode)), mode);
  }
  EXPECT_THROW(linear_mode_from_string("fast"), UsageError);
}

}  // namespace
}  // namespace rtlynx
