// SPDX-License-Identifier: Apache-2.0
#include "study/distribution.h"

#include <gtest/gtest.h>

#include <numeric>

#include "study/analyze.h"

namespace rtlynx {
namespace {

TEST(Distribution, OfAGaussianIsKnown) {
  torch::manual_seed(1);
  Distribution distribution;
  for (int i = 0; i < 4; ++i) distribution.add(3 * torch::randn({500, 512}));
  EXPECT_NEAR(distribution.kurtosis(), 3.0 * 512 / 514,
              0.02);  // K / (K + 2): norms are divided out
  EXPECT_NEAR(distribution.near_zero(), 0.0797, 0.001);
  EXPECT_NEAR(distribution.kept_energy(), kGaussianKeptEnergy, 0.001);
  const std::vector<double> density = distribution.density();
  ASSERT_EQ(density.size(), 64U);
  EXPECT_NEAR(density[32], 0.3979, 0.005);  // at 1/16
  EXPECT_NEAR(std::accumulate(density.begin(), density.end(), 0.0) / 8, 1.0, 1e-9);
}

TEST(Distribution, CountsEveryRowAlike) {
  // Two of four equal values each: half of the energy is kept of one, all of the other.
  Distribution distribution;
  distribution.add(torch::tensor({{100.0F, -100.0F, 100.0F, 100.0F}, {0.0F, 1.0F, -1.0F, 0.0F}}));
  EXPECT_NEAR(distribution.kept_energy(), 0.75, 1e-6);
  EXPECT_NEAR(distribution.kurtosis(), (4 * 1 + 2 * 4) / 8.0, 1e-6);
  EXPECT_NEAR(distribution.near_zero(), 0.25, 1e-12);
}

TEST(Distribution, RowsOfZerosDoNotCount) {
  Distribution distribution;
  EXPECT_EQ(distribution.kurtosis(), 0);
  distribution.add(torch::zeros({3, 8}));
  EXPECT_EQ(distribution.kept_energy(), 0);
  distribution.add(torch::ones({1, 8}));
  distribution.add(torch::zeros({3, 8}));
  EXPECT_NEAR(distribution.kept_energy(), 0.5, 1e-6);
}

TEST(Distribution, FarValuesFallIntoTheOutermostBins) {
  Distribution distribution;
  torch::Tensor row = torch::zeros({1, 64});
  row[0][5] = -7;  // eight times the root mean square
  distribution.add(row);
  EXPECT_NEAR(distribution.density()[0], 1 / (64 * 0.125), 1e-9);
  EXPECT_EQ(Distribution::edges().front(), -4);
  EXPECT_EQ(Distribution::edges().back(), 4);
}

}  // namespace
}  // namespace rtlynx
