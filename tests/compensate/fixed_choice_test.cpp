// SPDX-License-Identifier: Apache-2.0
#include "compensate/fixed_choice.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "compensate/low_rank.h"
#include "compensate/second_moment.h"
#include "compensate/small_layer.h"

namespace rtlynx {
namespace {

TEST(FixedLowRank, HasHalfOfTheMultiplications) {
  const test::SmallLayer layer(24, 40);
  const Replacement fixed = fix_low_rank(layer.weight, layer.moment);
  const std::int64_t rank = 7;  // 24 * 40 / (2 * 64) = 7.5
  EXPECT_EQ(torch::linalg_matrix_rank(fixed.effective(), 1e-9).item<std::int64_t>(), rank);
  EXPECT_NEAR(fixed.relative_flops(40, 24), 7.0 * 64 / (24 * 40), 1e-15);
  EXPECT_TRUE(
      fixed.effective().equal(closest_low_rank(layer.weight, layer.moment, rank).product()));
}

// Least squares over the tokens: what the layer can do with the channels that it still reads.
TEST(FixedHalf, IsRefittedToTheTokens) {
  const test::SmallLayer layer(10, 16);
  const Replacement fixed = fix_half_of_axes(layer.weight, layer.moment, 4);
  EXPECT_NEAR(fixed.relative_flops(16, 10), 0.5 + 4.0 / (2 * 10), 1e-15);
  // Each block of the effective weight reads two directions.
  std::vector<torch::Tensor> read;
  for (std::int64_t first = 0; first < 16; first += 4) {
    const torch::Tensor part = fixed.effective().narrow(1, first, 4);
    EXPECT_EQ(torch::linalg_matrix_rank(part, 1e-9).item<std::int64_t>(), 2);
    read.push_back(std::get<2>(torch::linalg_svd(part)).narrow(0, 0, 2).t());
  }
  const torch::Tensor axes = torch::block_diag(read);  // [16, 8]
  const torch::Tensor seen = layer.tokens.matmul(axes);
  const torch::Tensor wanted = layer.tokens.matmul(layer.weight.t());
  const torch::Tensor best = std::get<0>(torch::linalg_lstsq(seen, wanted));
  EXPECT_TRUE(fixed.effective().allclose(axes.matmul(best).t(), 1e-7, 1e-7));
}

// With V = I and one strong half per block the axes to keep are known.
TEST(FixedHalf, KeepsTheAxesThatMatter) {
  const torch::Tensor weight = std::get<0>(torch::linalg_qr(torch::randn({8, 8}, torch::kFloat64)));
  const torch::Tensor moment =
      torch::diag(torch::tensor({4.0, 0.1, 0.2, 3.0, 0.1, 5.0, 2.0, 0.3}, torch::kFloat64));
  const torch::Tensor kept =
      torch::tensor({1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0}, torch::kFloat64);
  EXPECT_TRUE(fix_half_of_axes(weight, moment, 4).effective().allclose(weight * kept, 1e-9, 1e-9));
}

TEST(FixedHalf, OneBlockIsTheClosestLowRank) {
  const test::SmallLayer layer(10, 8);
  EXPECT_TRUE(fix_half_of_axes(layer.weight, layer.moment, 8)
                  .effective()
                  .allclose(closest_low_rank(layer.weight, layer.moment, 4).product(), 1e-7, 1e-7));
}

TEST(FixedHalf, LargerBlocksChooseBetter) {
  const test::SmallLayer layer(32, 32);
  const auto error = [&](std::int64_t block) {
    return layer.output_error(fix_half_of_axes(layer.weight, layer.moment, block).effective());
  };
  EXPECT_LT(error(32), error(8));
  EXPECT_LT(error(8), error(2));
}

TEST(FixedHalf, RefusesBlocksThatDoNotFit) {
  const test::SmallLayer layer(4, 12);
  for (const std::int64_t block : {0, 3, 8}) {
    EXPECT_THROW(fix_half_of_axes(layer.weight, layer.moment, block), Error);
  }
  EXPECT_THROW(fix_low_rank(layer.weight, torch::eye(3, torch::kFloat64)), Error);
}

}  // namespace
}  // namespace rtlynx
