// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/pack/sharing.h"

namespace rtlynx::pack {
namespace {

/// All pieces of a CTA, in its order.
std::vector<Piece> pieces_of(const Runs& runs, int cta) {
  std::vector<Piece> pieces;
  const int end = runs.begin(cta + 1);
  for (int at = runs.begin(cta); at < end;) {
    pieces.push_back(runs.piece(at, end));
    at = pieces.back().block * runs.steps() + pieces.back().end_step;
  }
  return pieces;
}

struct Grid {
  int blocks, steps, ctas;
};

class RunsTest : public ::testing::TestWithParam<Grid> {};

TEST_P(RunsTest, EveryStepIsDoneOnceInOrder) {
  const auto [blocks, steps, ctas] = GetParam();
  const Runs runs(blocks, steps, ctas);
  int block = 0, step = 0;
  for (int cta = 0; cta < ctas; ++cta) {
    for (const Piece& piece : pieces_of(runs, cta)) {
      ASSERT_EQ(piece.block, block);
      ASSERT_EQ(piece.first_step, step);
      ASSERT_GT(piece.end_step, piece.first_step);
      ASSERT_LE(piece.end_step, steps);
      step = piece.end_step == steps ? 0 : piece.end_step;
      block += piece.end_step == steps;
    }
  }
  EXPECT_EQ(block, blocks);
  EXPECT_EQ(runs.begin(0), 0);
  EXPECT_EQ(runs.begin(ctas), blocks * steps);
}

TEST_P(RunsTest, RunsDifferByOneStepAtMost) {
  const auto [blocks, steps, ctas] = GetParam();
  const Runs runs(blocks, steps, ctas);
  for (int cta = 0; cta < ctas; ++cta) {
    const int length = runs.begin(cta + 1) - runs.begin(cta);
    EXPECT_GE(length, blocks * steps / ctas) << cta;
    EXPECT_LE(length, (blocks * steps + ctas - 1) / ctas) << cta;
  }
}

TEST_P(RunsTest, TheCtasOfABlockAreThoseWithPiecesOfIt) {
  const auto [blocks, steps, ctas] = GetParam();
  const Runs runs(blocks, steps, ctas);
  std::vector<std::set<int>> found(static_cast<std::size_t>(blocks));
  for (int cta = 0; cta < ctas; ++cta) {
    for (const Piece& piece : pieces_of(runs, cta)) {
      found[static_cast<std::size_t>(piece.block)].insert(cta);
    }
  }
  for (int block = 0; block < blocks; ++block) {
    const std::set<int>& own = found[static_cast<std::size_t>(block)];
    EXPECT_EQ(runs.first_cta(block), *own.begin()) << block;
    EXPECT_EQ(runs.last_cta(block), *own.rbegin()) << block;
  }
}

// Two pieces that are cut share neither a part nor, if they are of two blocks, a counter.
TEST_P(RunsTest, NoTwoCutPiecesShareAPart) {
  const auto [blocks, steps, ctas] = GetParam();
  const Runs runs(blocks, steps, ctas);
  std::set<int> parts, counters;
  int last_block = -1;
  for (int cta = 0; cta < ctas; ++cta) {
    for (const Piece& piece : pieces_of(runs, cta)) {
      if (piece.end_step - piece.first_step == steps) continue;
      const int part = part_of(cta, piece.first_step == 0);
      EXPECT_TRUE(parts.insert(part).second) << "block " << piece.block << " of CTA " << cta;
      EXPECT_LT(part, 2 * ctas);
      EXPECT_EQ(piece.first_step == 0, cta == runs.first_cta(piece.block));
      if (piece.block == last_block) continue;
      last_block = piece.block;
      EXPECT_TRUE(counters.insert(runs.first_cta(piece.block)).second) << piece.block;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, RunsTest,
                         ::testing::Values(Grid{1, 1, 1}, Grid{1, 48, 16}, Grid{32, 192, 132},
                                           Grid{32, 192, 128}, Grid{33, 160, 132},
                                           Grid{36, 240, 132}, Grid{54, 192, 264},
                                           Grid{54, 48, 132}, Grid{300, 1, 100}, Grid{157, 5, 132},
                                           Grid{1000, 3, 132}, Grid{7, 13, 91}, Grid{32, 48, 224},
                                           Grid{20000, 48, 132}));

// The CTAs of a cluster add up the moments of one block: each cluster has exactly one.
TEST(Runs, AMultipleOfTheBlocksCutsAllAlike) {
  for (const int blocks : {1, 7, 32, 33, 54, 65536}) {
    for (const int steps : {1, 5, 48, 60, 240}) {
      for (int cluster = 1; cluster <= std::min(steps, kLargestCluster); ++cluster) {
        const Runs runs(blocks, steps, blocks * cluster);
        for (const int block : {0, blocks / 2, blocks - 1}) {
          EXPECT_EQ(runs.begin(block * cluster), block * steps) << blocks << " " << steps;
          EXPECT_EQ(runs.first_cta(block), block * cluster);
          EXPECT_EQ(runs.last_cta(block), (block + 1) * cluster - 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace rtlynx::pack
