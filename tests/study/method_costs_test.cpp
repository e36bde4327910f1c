// SPDX-License-Identifier: Apache-2.0
#include "study/method_costs.h"

#include <gtest/gtest.h>

#include <map>

namespace rtlynx {
namespace {

std::map<std::string, MethodCost> by_name(const LayerWork& work, std::int64_t rank) {
  std::map<std::string, MethodCost> costs;
  for (const MethodCost& cost : method_costs(work, rank)) costs[cost.method] = cost;
  return costs;
}

// FLUX.1's MLP up at 1024 x 1024.
constexpr LayerWork kMlpUp{.tokens = 4096, .in_features = 3072, .out_features = 12288};

TEST(MethodCosts, BothMeasuresStandSideBySide) {
  const auto costs = by_name(kMlpUp, 64);
  ASSERT_EQ(costs.size(), 9U);
  const MethodCost& low_rank = costs.at("activation 2:4, low rank");
  EXPECT_DOUBLE_EQ(low_rank.relative_flops, 0.5 + 64.0 * (3072 + 12288) / (3072.0 * 12288));
  EXPECT_EQ(low_rank.us, 297.4);
  EXPECT_EQ(low_rank.source, "measured");
  EXPECT_DOUBLE_EQ(low_rank.relative_us.value(), 297.4 / costs.at("dense").us.value());
  EXPECT_DOUBLE_EQ(costs.at("weight 2:4").relative_flops, 0.5);
}

TEST(MethodCosts, FixedChoicesHaveHalfTheMultiplications) {
  const auto costs = by_name(kMlpUp, 0);
  EXPECT_NEAR(costs.at("fixed low rank").relative_flops, 0.5, 1e-3);
  // The projection onto the axes is extra: K 32 of K N multiplications.
  EXPECT_DOUBLE_EQ(costs.at("fixed half of the axes").relative_flops, 0.5 + 32.0 / 12288);
  for (const char* method : {"fixed low rank", "fixed half of the axes"}) {
    EXPECT_GT(costs.at(method).relative_us.value(), 0.5) << method;
    EXPECT_LT(costs.at(method).relative_us.value(), 1.0) << method;
  }
}

TEST(MethodCosts, LeavesOutWhatDoesNotFit) {
  const auto costs = by_name({.tokens = 4096, .in_features = 3088, .out_features = 3072}, 0);
  EXPECT_FALSE(costs.contains("activation 2:4, blocks of 64"));
  EXPECT_FALSE(costs.contains("fixed half of the axes"));
  EXPECT_FALSE(costs.contains("activation 2:4, low rank"));
}

TEST(MethodCosts, AKernelThatIsNotThereHasNoTime) {
  const auto costs = by_name({.tokens = 64, .in_features = 3072, .out_features = 3072}, 64);
  const MethodCost& sparse = costs.at("activation 2:4");
  EXPECT_FALSE(sparse.us || sparse.relative_us);
  EXPECT_FALSE(sparse.source.empty());
  EXPECT_TRUE(costs.at("fixed low rank").us);
}

}  // namespace
}  // namespace rtlynx
