// SPDX-License-Identifier: Apache-2.0
#include "metrics/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"

namespace rtlynx {
namespace {

std::vector<double> uniform_values(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<double> values(count);
  for (double& value : values) value = rng.uniform();
  return values;
}

TEST(Bootstrap, AgreesWithTheNormalApproximation) {
  const std::vector<double> values = uniform_values(400, 1);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / 400;
  const double half_width = 1.96 / std::sqrt(12.0 * 400);
  const Interval interval = bootstrap_mean(values, {.resamples = 4000});
  EXPECT_NEAR(interval.low, mean - half_width, 0.15 * half_width);
  EXPECT_NEAR(interval.high, mean + half_width, 0.15 * half_width);
}

TEST(Bootstrap, CoversTheTruthAsOftenAsItSays) {
  int covered = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Interval interval =
        bootstrap_mean(uniform_values(50, 1000 + seed), {.resamples = 400, .confidence = 0.9});
    covered += interval.low <= 0.5 && 0.5 <= interval.high ? 1 : 0;
  }
  EXPECT_NEAR(covered, 180, 15);  // four standard deviations of a binomial
}

TEST(Bootstrap, SameSeedSameInterval) {
  const std::vector<double> values = uniform_values(30, 2);
  const Interval a = bootstrap_mean(values), b = bootstrap_mean(values);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(bootstrap_mean(values, {.seed = 1}).low, a.low);
}

TEST(Bootstrap, MoreConfidenceIsWider) {
  const std::vector<double> values = uniform_values(30, 3);
  const Interval narrow = bootstrap_mean(values, {.confidence = 0.5});
  const Interval wide = bootstrap_mean(values, {.confidence = 0.99});
  EXPECT_LT(wide.low, narrow.low);
  EXPECT_GT(wide.high, narrow.high);
}

TEST(Bootstrap, TakesAnyStatistic) {
  const std::vector<double> values = {1, 2, 30};
  const Interval interval = bootstrap_interval(values.size(),
                                               [&](std::span<const std::size_t> drawn) {
                                                 EXPECT_EQ(drawn.size(), 3U);
                                                 double largest = 0;
                                                 for (const std::size_t index : drawn)
                                                   largest = std::max(largest, values[index]);
                                                 return largest;
                                               },
                                               {.resamples = 5000});
  EXPECT_EQ(interval.low, 1);  // all three draws the first: 1 in 27, above 2.5 %
  EXPECT_EQ(interval.high, 30);
}

TEST(Bootstrap, OneSampleHasNoSpread) {
  const Interval interval = bootstrap_mean({4.5});
  EXPECT_EQ(interval.low, 4.5);
  EXPECT_EQ(interval.high, 4.5);
}

TEST(Bootstrap, RefusesWhatMeansNothing) {
  EXPECT_THROW(bootstrap_mean({}), Error);
  EXPECT_THROW(bootstrap_mean({1.0}, {.resamples = 0}), Error);
  EXPECT_THROW(bootstrap_mean({1.0}, {.confidence = 1.0}), Error);
}

}  // namespace
}  // namespace rtlynx
