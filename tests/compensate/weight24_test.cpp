// SPDX-License-Identifier: Apache-2.0
#include "compensate/weight24.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "compensate/small_layer.h"

namespace rtlynx {
namespace {

using test::SmallLayer;

// sparse, the groups of four those of its channels in `order`, is 2:4 with exactly two kept.
void expect_pattern(const PrunedWeight& pruned, const std::string& name) {
  const torch::Tensor ordered =
      pruned.order.defined() ? pruned.sparse.index_select(1, pruned.order) : pruned.sparse;
  const torch::Tensor kept = (ordered.unflatten(1, {-1, 4}) != 0).sum(-1);
  EXPECT_TRUE((kept == 2).all().item<bool>()) << name;
}

// The mask by sorting each group of each row on its own.
torch::Tensor mask_by_sorting(std::int64_t rows, std::int64_t columns,
                              const std::function<double(std::int64_t, std::int64_t)>& score) {
  torch::Tensor mask = torch::zeros({rows, columns}, torch::kBool);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t first = 0; first < columns; first += 4) {
      std::vector<std::int64_t> order = {first, first + 1, first + 2, first + 3};
      std::stable_sort(order.begin(), order.end(),
                       [&](auto a, auto b) { return score(i, a) > score(i, b); });
      mask.index_put_({i, order[0]}, true);
      mask.index_put_({i, order[1]}, true);
    }
  }
  return mask;
}

double at(const torch::Tensor& tensor, std::int64_t i, std::int64_t j) {
  return tensor.index({i, j}).item<double>();
}

class Weight24 : public testing::Test {
 protected:
  SmallLayer layer_{6, 16};
  torch::Tensor size_ = layer_.weight.abs();
  torch::Tensor norms_ = layer_.tokens.norm(2, {0});

  void expect_mask(const PrunedWeight& pruned,
                   const std::function<double(std::int64_t, std::int64_t)>& score) {
    expect_pattern(pruned, "");
    EXPECT_TRUE(pruned.sparse.equal(layer_.weight * mask_by_sorting(6, 16, score)));
    EXPECT_TRUE(pruned.effective().equal(pruned.sparse));
    EXPECT_EQ(pruned.relative_flops(), 0.5);
  }
};

TEST_F(Weight24, MagnitudeKeepsTheLargest) {
  expect_mask(prune_by_magnitude(layer_.weight), [&](auto i, auto j) { return at(size_, i, j); });
}

TEST_F(Weight24, WandaWeighsByTheInputsNorm) {
  expect_mask(prune_by_wanda(layer_.weight, layer_.moment),
              [&](auto i, auto j) { return at(size_, i, j) * norms_[j].template item<double>(); });
}

double ria_score(const torch::Tensor& size, const torch::Tensor& norms, std::int64_t i,
                 std::int64_t j) {
  const double column = size.select(1, j).sum().item<double>();
  const double row = size.select(0, i).sum().item<double>();
  return (at(size, i, j) / column + at(size, i, j) / row) * std::sqrt(norms[j].item<double>());
}

TEST_F(Weight24, RiaIsRelativeToRowAndColumn) {
  expect_mask(prune_by_ria(layer_.weight, layer_.moment),
              [&](auto i, auto j) { return ria_score(size_, norms_, i, j); });
}

TEST_F(Weight24, PermutedRiaKeepsMoreOfTheScore) {
  const PrunedWeight plain = prune_by_ria(layer_.weight, layer_.moment);
  const PrunedWeight permuted = prune_by_ria(layer_.weight, layer_.moment, ChannelOrder::snake);
  expect_pattern(permuted, "permuted");
  const torch::Tensor mask = permuted.sparse != 0;
  EXPECT_TRUE(permuted.sparse.equal(layer_.weight * mask));  // in the original order of channels

  // What it stands for: x and W in the new order, pruned there.
  const torch::Tensor tokens = layer_.tokens.index_select(1, permuted.order);
  const torch::Tensor weight = permuted.sparse.index_select(1, permuted.order);
  EXPECT_TRUE(tokens.matmul(weight.t()).allclose(layer_.tokens.matmul(permuted.sparse.t())));

  const auto kept_score = [&](const torch::Tensor& kept) {
    double sum = 0;
    for (std::int64_t i = 0; i < 6; ++i) {
      for (std::int64_t j = 0; j < 16; ++j) {
        if (kept.index({i, j}).item<bool>()) sum += ria_score(size_, norms_, i, j);
      }
    }
    return sum;
  };
  EXPECT_GT(kept_score(mask), kept_score(plain.sparse != 0));
}

TEST_F(Weight24, BawaStyleContainsWanda) {
  EXPECT_TRUE(prune_bawa_style(layer_.weight, layer_.moment, {0, 0, 1})
                  .sparse.equal(prune_by_wanda(layer_.weight, layer_.moment).sparse));
  expect_mask(prune_bawa_style(layer_.weight, layer_.moment, {1, 0.5, 0.7}), [&](auto i, auto j) {
    const double column = layer_.weight.select(1, j).norm().template item<double>();
    const double row = layer_.weight.select(0, i).norm().template item<double>();
    return (at(size_, i, j) / column + at(size_, i, j) / std::sqrt(row)) *
           std::pow(norms_[j].template item<double>(), 0.7);
  });
}

TEST(BawaSearch, IsSeededAndBetterThanItsStart) {
  const SmallLayer layer(32, 64);
  const auto error = [&](const BawaExponents& exponents) {
    return layer.output_error(prune_bawa_style(layer.weight, layer.moment, exponents).sparse);
  };
  const BawaExponents found = search_bawa_exponents(layer.weight, layer.moment);
  EXPECT_EQ(found, search_bawa_exponents(layer.weight, layer.moment));
  EXPECT_NE(found, search_bawa_exponents(layer.weight, layer.moment, {.seed = 1}));
  EXPECT_LT(error(found), error({0, 0, 1}));
  for (const double exponent : found) EXPECT_GE(exponent, 0);
  const BawaExponents one = search_bawa_exponents(layer.weight, layer.moment, {.evaluations = 1});
  EXPECT_EQ(one, (BawaExponents{0, 0, 1}));
}

TEST_F(Weight24, SlimsKeptWeightsAreExact) {
  for (const std::int64_t rank : {0, 2}) {
    const PrunedWeight slim = prune_by_slim(layer_.weight, layer_.moment, rank);
    expect_pattern(slim, "slim");
    EXPECT_EQ(slim.low_rank.rank(), rank == 0 ? 1 : rank);  // a tenth of 6, at least 1
    const torch::Tensor mask = prune_by_wanda(layer_.weight, layer_.moment).sparse != 0;
    EXPECT_TRUE((slim.sparse != 0).equal(mask));
    EXPECT_TRUE((slim.effective() * mask).allclose(layer_.weight * mask, 1e-12, 1e-12));
  }
}

TEST_F(Weight24, SlimsLowRankIsTheSvdInSaliencySpace) {
  const PrunedWeight slim = prune_by_slim(layer_.weight, layer_.moment, 2);
  const torch::Tensor lost = layer_.weight - prune_by_wanda(layer_.weight, layer_.moment).sparse;
  const auto [u, values, vh] = torch::linalg_svd(lost * norms_, /*full_matrices=*/false);
  const torch::Tensor best =
      u.narrow(1, 0, 2).matmul(values.narrow(0, 0, 2).diag()).matmul(vh.narrow(0, 0, 2)) / norms_;
  EXPECT_TRUE(slim.low_rank.product().allclose(best, 1e-8, 1e-8));
}

TEST_F(Weight24, LowRankRepairsWhatPruningLost) {
  const PrunedWeight wanda = prune_by_wanda(layer_.weight, layer_.moment);
  const PrunedWeight repaired = with_low_rank(wanda, layer_.weight, layer_.moment, 2);
  EXPECT_TRUE(repaired.sparse.equal(wanda.sparse));
  EXPECT_LT(layer_.output_error(repaired.effective()), layer_.output_error(wanda.effective()));
  // EoRA minimises the output's error, SLiM an approximation of it.
  EXPECT_LT(layer_.output_error(repaired.effective()),
            layer_.output_error(wanda.sparse +
                                prune_by_slim(layer_.weight, layer_.moment, 2).low_rank.product()));
  EXPECT_NEAR(repaired.relative_flops(), 0.5 + 2.0 * (16 + 6) / (16 * 6), 1e-15);
  EXPECT_THROW(with_low_rank(repaired, layer_.weight, layer_.moment, 2), Error);
}

TEST(Weight24Pattern, HoldsForEveryMethodAndType) {
  const SmallLayer layer(9, 24);
  const torch::Tensor weight = layer.weight.to(torch::kBFloat16);
  expect_pattern(prune_by_magnitude(weight), "magnitude");
  expect_pattern(prune_by_wanda(weight, layer.moment), "wanda");
  expect_pattern(prune_by_ria(weight, layer.moment), "ria");
  expect_pattern(prune_by_ria(weight, layer.moment, ChannelOrder::snake), "ria permuted");
  expect_pattern(prune_bawa_style(weight, layer.moment, {0.3, 0.8, 0.6}), "bawa");
  expect_pattern(prune_by_sparse_gpt(weight, layer.moment), "sparsegpt");
  expect_pattern(prune_by_slim(weight, layer.moment), "slim");
}

TEST(Weight24Pattern, SilentChannelsAndEmptyRowsAreDecided) {
  SmallLayer layer(4, 8);
  layer.weight.select(0, 1).zero_();  // a row
  layer.weight.select(1, 2).zero_();  // a column
  layer.tokens.narrow(1, 4, 4).zero_();
  layer.moment = layer.tokens.t().matmul(layer.tokens) / 400;
  for (const PrunedWeight& pruned :
       {prune_by_wanda(layer.weight, layer.moment), prune_by_ria(layer.weight, layer.moment),
        prune_by_ria(layer.weight, layer.moment, ChannelOrder::snake),
        prune_bawa_style(layer.weight, layer.moment, {1, 1, 0.5}),
        prune_by_sparse_gpt(layer.weight, layer.moment),
        prune_by_slim(layer.weight, layer.moment)}) {
    EXPECT_TRUE(pruned.effective().isfinite().all().item<bool>());
  }
  // Wanda's scores are all zero there: the lower channels stay.
  const torch::Tensor silent = prune_by_wanda(layer.weight, layer.moment).sparse.narrow(1, 4, 4);
  EXPECT_TRUE(silent.narrow(1, 0, 2).equal(layer.weight.narrow(1, 4, 2)));
  EXPECT_EQ(silent.narrow(1, 2, 2).abs().sum().item<double>(), 0);
  EXPECT_TRUE(prune_by_slim(layer.weight, torch::zeros_like(layer.moment))
                  .effective()
                  .isfinite()
                  .all()
                  .item<bool>());
}

TEST(SnakeOrder, GivesEveryGroupOneChannelOfEachQuarter) {
  const torch::Tensor order =
      snake_order(torch::tensor({8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0}, torch::kFloat64));
  // Ranked 0 2 4 6 7 5 3 1: quarters (0 2) (4 6) (7 5) (3 1), the second and fourth backwards.
  EXPECT_TRUE(order.equal(torch::tensor({0, 6, 7, 1, 2, 4, 5, 3}, torch::kInt64)));
}

TEST(Weight24Errors, NameTheChannels) {
  const SmallLayer layer(4, 6);
  for (const auto& prune : std::vector<std::function<PrunedWeight()>>{
           [&] { return prune_by_magnitude(layer.weight); },
           [&] { return prune_by_wanda(layer.weight, layer.moment); },
           [&] { return prune_by_sparse_gpt(layer.weight, layer.moment); }}) {
    try {
      prune();
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("K divisible by 4, got 6 input channels"),
                std::string::npos)
          << error.what();
    }
  }
  const SmallLayer fits(4, 8);
  EXPECT_THROW(prune_by_wanda(fits.weight, layer.moment), Error);
  EXPECT_THROW(search_bawa_exponents(fits.weight, fits.moment, {.evaluations = 0}), Error);
}

}  // namespace
}  // namespace rtlynx
