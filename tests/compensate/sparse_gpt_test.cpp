// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "compensate/second_moment.h"
#include "compensate/small_layer.h"
#include "compensate/weight24.h"

namespace rtlynx {
namespace {

// Optimal Brain Surgeon on one row [K], with the inverse of what is left computed anew for every
// column: removing weight i in favour of the columns after it costs w_i^2 / (H^-1)_00, and moves
// them by -w_i / (H^-1)_00 times the inverse's first column.
torch::Tensor surgeon(torch::Tensor row, const torch::Tensor& hessian) {
  row = row.clone();
  const std::int64_t inputs = row.size(0);
  const auto inverse_from = [&](std::int64_t first) {
    return torch::linalg_inv(
        hessian.narrow(0, first, inputs - first).narrow(1, first, inputs - first));
  };
  std::array<bool, 4> kept{};
  for (std::int64_t i = 0; i < inputs; ++i) {
    if (i % 4 == 0) {
      std::array<std::pair<double, std::int64_t>, 4> cost;
      for (std::int64_t j = 0; j < 4; ++j) {
        const double w = row[i + j].item<double>();
        cost[j] = {w * w / inverse_from(i + j)[0][0].item<double>(), j};
      }
      std::sort(cost.begin(), cost.end());
      kept = {};
      kept[cost[2].second] = kept[cost[3].second] = true;
    }
    if (kept[i % 4]) continue;
    const torch::Tensor inverse = inverse_from(i);
    const torch::Tensor move = -row[i] / inverse[0][0] * inverse.select(1, 0);
    row.narrow(0, i, inputs - i).add_(move);
    row[i] = 0;
  }
  return row;
}

torch::Tensor damped(const torch::Tensor& moment) {
  const torch::Tensor hessian = 2 * moment;
  return hessian + 0.01 * hessian.diagonal().mean() * torch::eye(moment.size(0), torch::kFloat64);
}

TEST(SparseGpt, IsOptimalBrainSurgeonRowByRow) {
  const test::SmallLayer layer(5, 12);
  const torch::Tensor pruned = prune_by_sparse_gpt(layer.weight, layer.moment).sparse;
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(pruned.select(0, i).allclose(
        surgeon(layer.weight.select(0, i), damped(layer.moment)), 1e-8, 1e-8))
        << "row " << i;
  }
}

// Errors cross from one block of 128 columns to the next.
TEST(SparseGpt, BlocksChangeNothing) {
  const test::SmallLayer layer(2, 136, 600);
  const torch::Tensor pruned = prune_by_sparse_gpt(layer.weight, layer.moment).sparse;
  const torch::Tensor wanted = surgeon(layer.weight.select(0, 1), damped(layer.moment));
  EXPECT_TRUE(pruned.select(0, 1).allclose(wanted, 1e-6, 1e-7));
}

TEST(SparseGpt, BeatsMasksWithoutCompensation) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const test::SmallLayer layer(16, 32, 400, seed);
    EXPECT_LT(layer.output_error(prune_by_sparse_gpt(layer.weight, layer.moment).sparse),
              layer.output_error(prune_by_wanda(layer.weight, layer.moment).sparse));
  }
}

TEST(SparseGpt, UncorrelatedChannelsNeedNoCompensation) {
  const test::SmallLayer layer(6, 16);
  const torch::Tensor moment = torch::eye(16, torch::kFloat64);
  EXPECT_TRUE(prune_by_sparse_gpt(layer.weight, moment)
                  .sparse.allclose(prune_by_magnitude(layer.weight).sparse));
}

TEST(SparseGpt, ChannelsThatNoTokenUsesLoseTheirWeights) {
  test::SmallLayer layer(4, 8);
  layer.tokens.select(1, 3).zero_();
  layer.moment = layer.tokens.t().matmul(layer.tokens) / 400;
  const torch::Tensor pruned = prune_by_sparse_gpt(layer.weight, layer.moment).sparse;
  EXPECT_EQ(pruned.select(1, 3).abs().sum().item<double>(), 0);
  EXPECT_TRUE(pruned.isfinite().all().item<bool>());
  const torch::Tensor before = layer.weight.clone();
  EXPECT_TRUE(layer.weight.equal(before));  // the argument is left alone
}

}  // namespace
}  // namespace rtlynx
