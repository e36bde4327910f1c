// SPDX-License-Identifier: Apache-2.0
#include "compensate/low_rank.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "compensate/small_layer.h"

namespace rtlynx {
namespace {

// The textbook form: SVD of the outputs over the tokens themselves.
torch::Tensor closest_by_svd(const test::SmallLayer& layer, std::int64_t rank) {
  const torch::Tensor outputs = layer.tokens.matmul(layer.weight.t());  // [n, N]
  const auto [u, values, vh] = torch::linalg_svd(outputs, /*full_matrices=*/false);
  const torch::Tensor best =
      u.narrow(1, 0, rank).matmul(values.narrow(0, 0, rank).diag()).matmul(vh.narrow(0, 0, rank));
  return std::get<0>(torch::linalg_lstsq(layer.tokens, best)).t();  // [N, K]
}

TEST(ClosestLowRank, IsTheSvdOfTheOutputs) {
  for (const auto& [outputs, inputs] : {std::pair{6, 10}, std::pair{10, 6}}) {
    const test::SmallLayer layer(outputs, inputs);
    for (const std::int64_t rank : {1, 3, 6}) {
      const LowRank found = closest_low_rank(layer.weight, layer.moment, rank);
      EXPECT_EQ(found.rank(), rank);
      EXPECT_TRUE(found.product().allclose(closest_by_svd(layer, rank), 1e-7, 1e-7)) << rank;
    }
  }
}

TEST(ClosestLowRank, NoPerturbationIsCloser) {
  const test::SmallLayer layer(8, 12);
  const LowRank found = closest_low_rank(layer.weight, layer.moment, 3);
  const double least = layer.output_error(found.product());
  for (int i = 0; i < 200; ++i) {
    const double step = i % 2 == 0 ? 1e-3 : 1e-1;
    const LowRank other{.down = found.down + step * torch::randn_like(found.down),
                        .up = found.up + step * torch::randn_like(found.up)};
    EXPECT_GE(layer.output_error(other.product()), least);
  }
}

TEST(ClosestLowRank, FullRankLosesNothing) {
  const test::SmallLayer layer(5, 9);
  EXPECT_NEAR(layer.output_error(closest_low_rank(layer.weight, layer.moment, 5).product()), 0,
              1e-18);
}

// From 1025 outputs on a range finder looks for the directions.
TEST(ClosestLowRank, IsTheSvdForManyOutputsToo) {
  torch::manual_seed(51);
  const std::int64_t size = 1030, rank = 5;
  const auto basis = [&] {
    return std::get<0>(torch::linalg_qr(torch::randn({size, size}, torch::kFloat64)));
  };
  const torch::Tensor values = torch::pow(0.5, torch::arange(size, torch::kFloat64));
  const torch::Tensor u = basis(), v = basis();
  const torch::Tensor matrix = (u * values).mm(v.t()), moment = torch::eye(size, torch::kFloat64);
  const LowRank found = closest_low_rank(matrix, moment, rank);
  const torch::Tensor wanted =
      (u.narrow(1, 0, rank) * values.narrow(0, 0, rank)).mm(v.narrow(1, 0, rank).t());
  EXPECT_TRUE(found.product().allclose(wanted, 1e-7, 1e-9));
  EXPECT_TRUE(found.up.equal(closest_low_rank(matrix, moment, rank).up));
}

TEST(ClosestLowRank, RefusesImpossibleRanks) {
  const test::SmallLayer layer(5, 9);
  EXPECT_THROW(closest_low_rank(layer.weight, layer.moment, 0), Error);
  EXPECT_THROW(closest_low_rank(layer.weight, layer.moment, 6), Error);
  EXPECT_EQ(LowRank{}.rank(), 0);
}

}  // namespace
}  // namespace rtlynx
