// SPDX-License-Identifier: Apache-2.0
#include "compensate/closed_form.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include "compensate/small_layer.h"
#include "ops/ops.h"
#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 24;
constexpr std::int64_t kOut = 10;
constexpr std::int64_t kRank = 3;
constexpr double kNoDamping = 1e-13;

/// A layer, what is selected of its tokens, and their moments in fp64, so that closed forms can be
/// compared with the data to many digits.
class ClosedForms : public testing::TestWithParam<bool> {
 protected:
  ClosedForms() {
    const auto [kept, scale] = ops::sparsify24(layer_.tokens.to(torch::kFloat32), GetParam());
    selected_ = kept.to(torch::kFloat64) * scale.unsqueeze(1).to(torch::kFloat64);
    const torch::Tensor& x = layer_.tokens;
    moments_ = {.xx = x.t().mm(x),
                .xs = x.t().mm(selected_),
                .ss = selected_.t().mm(selected_),
                .tokens = x.size(0)};
  }

  const torch::Tensor& weight() const { return layer_.weight; }
  torch::Tensor outputs() const { return layer_.tokens.mm(weight().t()); }

  // From the data: what the layer misses when S times `sparse` and the low rank take its place.
  torch::Tensor loss(const torch::Tensor& sparse, const torch::Tensor& down,
                     const torch::Tensor& up) const {
    const torch::Tensor low = layer_.tokens.mm(down.t()).mm(up.t());
    return (outputs() - selected_.mm(sparse.t()) - low).square().sum();
  }
  double loss(const LayerFit& fit) const {
    const torch::Tensor none = torch::zeros({0, kIn}, torch::kFloat64);
    return fit.low_rank.defined()
               ? loss(fit.weight, fit.low_rank.down, fit.low_rank.up).item<double>()
               : loss(fit.weight, none, none.new_zeros({kOut, 0})).item<double>();
  }

  // The smallest loss that L-BFGS finds from a random start. An undefined tensor of `fit` is held
  // at W or left out.
  double descend(bool with_weight) const {
    torch::manual_seed(61);
    torch::Tensor sparse = weight().clone();
    torch::Tensor down = 0.1 * torch::randn({kRank, kIn}, torch::kFloat64);
    torch::Tensor up = 0.1 * torch::randn({kOut, kRank}, torch::kFloat64);
    std::vector<torch::Tensor> free = {down.requires_grad_(), up.requires_grad_()};
    if (with_weight) free.push_back(sparse.requires_grad_());
    torch::optim::LBFGS optimizer(
        free, torch::optim::LBFGSOptions(1.0).max_iter(3000).line_search_fn("strong_wolfe"));
    const auto closure = [&] {
      optimizer.zero_grad();
      const torch::Tensor value = loss(sparse, down, up);
      value.backward();
      return value;
    };
    optimizer.step(closure);
    const torch::NoGradGuard no_grad;
    return loss(sparse, down, up).item<double>();
  }

  // No small step in any tensor of the fit makes it better.
  void expect_minimum(const LayerFit& fit, bool with_weight) {
    torch::manual_seed(62);
    const double least = loss(fit);
    for (int trial = 0; trial < 20; ++trial) {
      LayerFit moved = fit;
      const auto shake = [](torch::Tensor& tensor) {
        tensor = tensor + 1e-3 * tensor.norm() * torch::randn_like(tensor) / std::sqrt(kIn * kOut);
      };
      if (with_weight) shake(moved.weight);
      if (fit.low_rank.defined()) {
        shake(moved.low_rank.down);
        shake(moved.low_rank.up);
      }
      EXPECT_GE(loss(moved), least * (1 - 1e-9));
    }
  }

  test::SmallLayer layer_ = test::SmallLayer(kOut, kIn);
  torch::Tensor selected_;
  InputMoments moments_;
};

TEST_P(ClosedForms, LowRankIsReducedRankRegressionOnTheData) {
  const LayerFit fit = low_rank_on_input(moments_, weight(), kRank, kNoDamping);
  EXPECT_TRUE(fit.weight.equal(weight()));
  // Least squares on the data, then the best rank of its predictions.
  const torch::Tensor target = (layer_.tokens - selected_).mm(weight().t());
  const torch::Tensor full = std::get<0>(torch::linalg_lstsq(layer_.tokens, target));
  const torch::Tensor directions =
      std::get<2>(torch::linalg_svd(layer_.tokens.mm(full), /*full_matrices=*/false))
          .narrow(0, 0, kRank);
  const torch::Tensor wanted = full.mm(directions.t()).mm(directions);  // [K, N]
  EXPECT_TRUE(fit.low_rank.product().allclose(wanted.t(), 1e-6, 1e-8));
}

TEST_P(ClosedForms, LongDescentFindsNoBetterLowRank) {
  const LayerFit fit = low_rank_on_input(moments_, weight(), kRank, kNoDamping);
  const double descended = descend(/*with_weight=*/false);
  EXPECT_GE(descended, loss(fit) * (1 - 1e-9));
  EXPECT_NEAR(descended, loss(fit), 1e-4 * loss(fit));  // and comes close: the yardstick works
  expect_minimum(fit, /*with_weight=*/false);
}

TEST_P(ClosedForms, RefitIsLeastSquaresOnTheData) {
  const LayerFit fit = refit(moments_, weight(), kNoDamping);
  EXPECT_FALSE(fit.low_rank.defined());
  const torch::Tensor wanted = std::get<0>(torch::linalg_lstsq(selected_, outputs()));
  EXPECT_TRUE(fit.weight.allclose(wanted.t(), 1e-6, 1e-8));
  expect_minimum(fit, /*with_weight=*/true);
}

TEST_P(ClosedForms, LongDescentFindsNoBetterRefitWithLowRank) {
  const LayerFit fit = refit_with_low_rank(moments_, weight(), kRank, kNoDamping);
  const double descended = descend(/*with_weight=*/true);
  EXPECT_GE(descended, loss(fit) * (1 - 1e-9));
  EXPECT_NEAR(descended, loss(fit), 1e-4 * loss(fit));
  expect_minimum(fit, /*with_weight=*/true);
}

TEST_P(ClosedForms, EachFreedomHelps) {
  const double naive = loss({.weight = weight(), .low_rank = {}});
  const double low_rank = loss(low_rank_on_input(moments_, weight(), kRank));
  const double refitted = loss(refit(moments_, weight()));
  const double joint = loss(refit_with_low_rank(moments_, weight(), kRank));
  EXPECT_LT(low_rank, naive);
  EXPECT_LT(refitted, naive);
  EXPECT_LT(joint, low_rank);
  EXPECT_LT(joint, refitted);
  EXPECT_LT(loss(refit_with_low_rank(moments_, weight(), kRank + 2)), joint);
}

TEST_P(ClosedForms, AFullRankLeavesNothingOut) {
  const LayerFit fit = refit_with_low_rank(moments_, weight(), kOut, kNoDamping);
  EXPECT_LE(relative_output_error(moments_, weight(), fit), 1e-6);
  EXPECT_LE(unrecoverable_share(moments_, weight(), kOut, kNoDamping), 1e-12);
}

TEST_P(ClosedForms, ErrorsFromMomentsAreThoseOfTheData) {
  const double whole = outputs().square().sum().item<double>();
  for (const LayerFit& fit :
       {LayerFit{.weight = weight(), .low_rank = {}}, refit(moments_, weight()),
        low_rank_on_input(moments_, weight(), kRank),
        refit_with_low_rank(moments_, weight(), kRank)}) {
    EXPECT_NEAR(relative_output_error(moments_, weight(), fit), std::sqrt(loss(fit) / whole), 1e-9);
  }
  const LayerFit best = refit_with_low_rank(moments_, weight(), kRank, kNoDamping);
  EXPECT_NEAR(unrecoverable_share(moments_, weight(), kRank, kNoDamping), loss(best) / whole, 1e-9);
}

TEST_P(ClosedForms, StrongDampingHoldsTheWeight) {
  EXPECT_TRUE(refit(moments_, weight(), 1e9).weight.allclose(weight(), 1e-6, 1e-6));
  // A direction that never occurs keeps its weight.
  InputMoments silent = moments_;
  for (torch::Tensor* sum : {&silent.xx, &silent.xs, &silent.ss}) {
    *sum = sum->clone();
    sum->select(0, 5).zero_();
    sum->select(1, 5).zero_();
  }
  EXPECT_TRUE(refit(silent, weight()).weight.select(1, 5).allclose(weight().select(1, 5)));
}

TEST_P(ClosedForms, TheNumberOfTokensDoesNotMatter) {
  InputMoments twice = moments_;
  twice.merge(moments_);
  EXPECT_TRUE(refit_with_low_rank(twice, weight(), kRank)
                  .weight.allclose(refit_with_low_rank(moments_, weight(), kRank).weight));
}

INSTANTIATE_TEST_SUITE_P(Norm, ClosedForms, testing::Bool(), [](const auto& norm) {
  return norm.param ? std::string("with") : std::string("without");
});

TEST(ClosedFormErrors, NameWhatIsMissing) {
  const torch::Tensor weight = torch::randn({kOut, kIn});
  InputMoments moments;
  moments.add(torch::randn({30, kIn}));
  EXPECT_NE(refusal([&] { refit(moments, weight); }).find("and of what was selected"),
            std::string::npos);
  InputMoments both;
  both.add(torch::randn({30, kIn}), torch::randn({30, kIn}));
  EXPECT_EQ(refusal([&] { refit(both, weight.t()); }),
            "closed form: required a weight [N, 24], got [24, 10]");
  EXPECT_NE(refusal([&] { low_rank_on_input(both, weight, 11); }).find("a rank from 1 to 10"),
            std::string::npos);
}

}  // namespace
}  // namespace rtlynx
