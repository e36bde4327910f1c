// SPDX-License-Identifier: Apache-2.0
#include "study/knapsack.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace rtlynx {
namespace {

constexpr std::size_t kMethods = 3;

// Methods of different character, as layers meet them; some save nothing.
KnapsackItems random_items(std::mt19937& random, std::size_t count) {
  std::uniform_real_distribution<double> uniform(0, 1);
  KnapsackItems items(count);
  for (auto& options : items) {
    for (std::size_t method = 0; method < kMethods; ++method) {
      if (uniform(random) < 0.1) continue;
      options.push_back(
          {.method = method, .error = uniform(random), .saved = uniform(random) - 0.1});
    }
  }
  return items;
}

struct Sums {
  double error = 0;
  double saved = 0;
};

Sums sums_of(const KnapsackItems& items, const KnapsackPlan& plan) {
  Sums sums;
  const auto taken = plan.taken(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!taken[i]) continue;
    sums.error += items[i][*taken[i]].error;
    sums.saved += items[i][*taken[i]].saved;
  }
  return sums;
}

// The least error that saves at least so much, by trying everything.
double least_error(const KnapsackItems& items, double saved, std::size_t from = 0) {
  if (from == items.size()) return saved <= 1e-12 ? 0 : std::numeric_limits<double>::infinity();
  double least = least_error(items, saved, from + 1);
  for (const KnapsackOption& option : items[from]) {
    least = std::min(least, option.error + least_error(items, saved - option.saved, from + 1));
  }
  return least;
}

KnapsackItems only(const KnapsackItems& items, std::size_t method) {
  KnapsackItems kept = items;
  for (auto& options : kept) {
    std::erase_if(options, [&](const auto& option) { return option.method != method; });
  }
  return kept;
}

double all_saved(const KnapsackItems& items) {
  double saved = 0;
  for (const auto& options : items) {
    for (const KnapsackOption& option : options) saved += std::max(0.0, option.saved);
  }
  return saved;
}

TEST(Knapsack, PlansAreWhatTheySay) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    const KnapsackItems items = random_items(random, 6);
    for (const double limit : {0.1, 0.7, 2.0, 100.0}) {
      const KnapsackPlan plan = mix_within_error(items, limit);
      const Sums sums = sums_of(items, plan);
      EXPECT_NEAR(sums.error, plan.error, 1e-12);
      EXPECT_NEAR(sums.saved, plan.saved, 1e-12);
      EXPECT_LE(plan.error, limit * (1 + 1e-9));
    }
  }
}

// Where the greedy stops of itself it is the optimum of all mixtures.
TEST(Knapsack, EveryBargainLeadsToAnOptimum) {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    const KnapsackItems items = random_items(random, 5);
    Sums sums;
    double last = 0;
    for (const KnapsackStep& step : bargains(items)) {
      EXPECT_GE(step.price(), last);
      last = step.price();
      sums.error += step.error;
      sums.saved += step.saved;
      EXPECT_NEAR(sums.error, least_error(items, sums.saved), 1e-9);
    }
  }
}

TEST(Knapsack, AMixtureIsNoWorseThanAnyMethodAlone) {
  std::mt19937 random(3);
  int better = 0;
  for (int round = 0; round < 60; ++round) {
    const KnapsackItems items = random_items(random, 6);
    for (std::size_t method = 0; method < kMethods; ++method) {
      const KnapsackItems alone = only(items, method);
      // As much as the method saves in all items: the mixture has at most its error.
      const double saved = all_saved(alone);
      double error = 0;
      for (const auto& options : alone) {
        for (const auto& option : options) error += option.saved > 0 ? option.error : 0;
      }
      const auto mixed = mix_until_saved(items, saved);
      ASSERT_TRUE(mixed);
      EXPECT_GE(mixed->saved, saved - 1e-9);
      EXPECT_LE(mixed->error, error + 1e-9);
      EXPECT_GE(mixed->error, least_error(items, saved) - 1e-9);
      better += mixed->error < error - 1e-9 ? 1 : 0;
      // And within its error it saves at least as much.
      EXPECT_GE(mix_within_error(items, error).saved, saved - 1e-9);
      for (const double share : {0.2, 0.6}) {
        const auto one = take_until_saved(alone, share * saved);
        EXPECT_LE(mix_until_saved(items, share * saved)->error, one->error + 1e-12);
      }
    }
  }
  EXPECT_GT(better, 120);  // of 180: it does mix
}

TEST(Knapsack, StepsAreTakenBack) {
  std::mt19937 random(4);
  const KnapsackItems items = random_items(random, 6);
  KnapsackPlan plan = mix_within_error(items, 100);
  ASSERT_GT(plan.steps.size(), items.size());  // some items go from one option to another
  while (!plan.steps.empty()) {
    plan.undo();
    const Sums sums = sums_of(items, plan);
    EXPECT_NEAR(sums.error, plan.error, 1e-12);
    EXPECT_NEAR(sums.saved, plan.saved, 1e-12);
  }
}

TEST(Knapsack, WhatCannotBeSavedIsNothing) {
  const KnapsackItems items = {{{.error = 1, .saved = 0.5}}, {}, {{.error = 0, .saved = -1}}};
  EXPECT_FALSE(mix_until_saved(items, 0.6));
  EXPECT_EQ(mix_until_saved(items, 0.5)->steps.size(), 1U);
  EXPECT_TRUE(mix_until_saved(items, 0)->steps.empty());
  EXPECT_TRUE(mix_within_error(items, 0.5).steps.empty());
}

}  // namespace
}  // namespace rtlynx
