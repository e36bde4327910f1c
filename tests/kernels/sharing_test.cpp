// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sharing.h"

#include <gtest/gtest.h>

#include <utility>

namespace rtlynx::pack {
namespace {

// As an H200 with 132 multiprocessors reports for two CTAs on each: its groups hold 14 to 18.
constexpr ClusterPlaces kH200{.alone = {0, 132, 66, 39, 30, 22, 17, 15, 15},
                              .at_once = {0, 264, 132, 79, 62, 47, 39, 32, 30}};

TEST(ChooseCluster, FillsTheGpuInOneGo) {
  // 32 blocks (4,096 tokens) of 48 steps: seven CTAs a block fit, eight do not.
  EXPECT_EQ(choose_cluster(kH200, 32, 48), 7);
  EXPECT_EQ(choose_cluster(kH200, 33, 60), 6);
  EXPECT_EQ(choose_cluster(kH200, 54, 48), 4);
}

TEST(ChooseCluster, KernelsThatAreAloneTakeFewer) {
  // Three CTAs a block, each alone, or six, two on a multiprocessor where that is possible.
  ClusterPlaces alone = kH200;
  alone.at_once = alone.alone;
  EXPECT_EQ(choose_cluster(alone, 36, 240), 3);
  EXPECT_EQ(choose_cluster(kH200, 36, 240), 6);
}

TEST(ChooseCluster, ManyBlocksShareNothing) { EXPECT_EQ(choose_cluster(kH200, 264, 48), 1); }

TEST(ChooseCluster, ACtaHasThreeStepsAtLeast) {
  for (int steps = 1; steps < 30; ++steps) {
    const int cluster = choose_cluster(kH200, 1, steps);
    EXPECT_TRUE(cluster == 1 || steps / cluster >= 3) << steps;
  }
}

TEST(ChooseCluster, SizesThatTheGpuCannotRunAreLeftOut) {
  ClusterPlaces places = kH200;
  for (int cluster = 5; cluster <= kLargestCluster; ++cluster) {
    places.alone[cluster] = places.at_once[cluster] = 0;
  }
  for (int blocks : {1, 32, 54}) EXPECT_LE(choose_cluster(places, blocks, 192), 4);
}

// 4,096 and 4,224 tokens: clusters of three or seven leave a quarter or a seventh idle.
TEST(Filled, RunsFillWhatClustersLeaveIdle) {
  ClusterPlaces alone = kH200;
  alone.at_once = alone.alone;
  EXPECT_DOUBLE_EQ(filled_by_clusters(alone, 32, 192), 96 / 132.0);
  EXPECT_DOUBLE_EQ(filled_by_clusters(kH200, 32, 192), 224 / 264.0);
  EXPECT_DOUBLE_EQ(filled_by_equal_runs(132, 32, 192), 128 / 132.0);
  EXPECT_DOUBLE_EQ(filled_by_equal_runs(132, 33, 160), 1.0);
}

TEST(Filled, OtherwiseBothFillAsMuch) {
  for (const auto& [blocks, steps] : {std::pair{36, 240}, {54, 192}}) {
    EXPECT_DOUBLE_EQ(filled_by_equal_runs(132, blocks, steps), 108 / 132.0) << blocks;
    EXPECT_DOUBLE_EQ(filled_by_clusters(kH200, blocks, steps), 216 / 264.0) << blocks;
  }
}

// One CTA adds up the parts of all runs of a block.
TEST(ChooseCtas, ABlockHasEightRunsAtMost) {
  EXPECT_EQ(choose_ctas(132, 1, 192), 8);
  EXPECT_EQ(choose_ctas(264, 32, 192), 256);
  EXPECT_EQ(choose_ctas(264, 20, 192), 160);
}

TEST(Filled, FewBlocksAreLeftToClusters) {
  for (int blocks = 1; blocks <= 26; ++blocks) {
    EXPECT_EQ(filled_by_equal_runs(132, blocks, 192), 0.0) << blocks;
  }
}

TEST(Filled, MoreBlocksThanCtasAreNotCutAlike) {
  EXPECT_EQ(filled_by_equal_runs(132, 133, 48), 0.0);
  EXPECT_DOUBLE_EQ(filled_by_clusters(kH200, 300, 1), 300 / 528.0);
}

TEST(ChooseCtas, AllMultiprocessorsHaveWork) {
  EXPECT_EQ(choose_ctas(132, 36, 240), 132);
  EXPECT_EQ(choose_ctas(132, 54, 192), 132);
  EXPECT_EQ(choose_ctas(132, 300, 48), 132);
}

TEST(ChooseCtas, BlocksAreCutAlikeIfRunsGetHardlyLonger) {
  EXPECT_EQ(choose_ctas(132, 32, 192), 128);
  EXPECT_EQ(choose_ctas(132, 33, 160), 132);
  EXPECT_EQ(choose_ctas(264, 54, 192), 264);  // 216 would leave 48 idle
}

TEST(ChooseCtas, ACtaHasThreeStepsOrAllThatThereAre) {
  EXPECT_EQ(choose_ctas(132, 1, 18), 6);
  EXPECT_EQ(choose_ctas(132, 1, 2), 1);
  EXPECT_EQ(choose_ctas(132, 2, 5), 2);
}

TEST(ChooseCluster, NoOtherSizeIsSooner) {
  const auto load = [](int cluster, int blocks, int steps) {
    const double own = (steps + cluster - 1) / cluster;
    if (blocks <= kH200.alone[cluster]) return own;
    const int rounds = (blocks + kH200.at_once[cluster] - 1) / kH200.at_once[cluster];
    return rounds * 1.7 * own;
  };
  for (int blocks = 1; blocks <= 300; blocks += 7) {
    for (int steps : {1, 5, 16, 48, 60, 192, 240}) {
      const int chosen = choose_cluster(kH200, blocks, steps);
      ASSERT_GE(chosen, 1);
      ASSERT_LE(chosen, kLargestCluster);
      for (int other = 1; other <= kLargestCluster && other * 3 <= steps; ++other) {
        EXPECT_LE(load(chosen, blocks, steps), load(other, blocks, steps))
            << blocks << " blocks, " << steps << " steps, " << chosen << " against " << other;
      }
    }
  }
}

}  // namespace
}  // namespace rtlynx::pack
