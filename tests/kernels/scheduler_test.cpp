// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace rtlynx::gpu {
namespace {

using ::testing::ElementsAre;

TEST(Scheduler, PositionsVisitEveryTileOnce) {
  for (int sparse_tiles = 1; sparse_tiles <= 9; ++sparse_tiles) {
    for (int dense_tiles = 1; dense_tiles <= 5; ++dense_tiles) {
      for (int group = 1; group <= 10; ++group) {
        const TileGrid grid{sparse_tiles, dense_tiles, group};
        std::set<std::pair<int, int>> seen;
        for (int tile = 0; tile < grid.tiles(); ++tile) {
          const TilePosition at = position(grid, tile);
          EXPECT_TRUE(at.sparse_tile >= 0 && at.sparse_tile < sparse_tiles);
          EXPECT_TRUE(at.dense_tile >= 0 && at.dense_tile < dense_tiles);
          seen.insert({at.sparse_tile, at.dense_tile});
        }
        EXPECT_EQ(seen.size(), static_cast<std::size_t>(grid.tiles()));
      }
    }
  }
}

TEST(Scheduler, GroupsWalkAlongTheOutputsTogether) {
  constexpr TileGrid kGrid{3, 2, 2};
  std::vector<TilePosition> order;
  for (int tile = 0; tile < kGrid.tiles(); ++tile) order.push_back(position(kGrid, tile));
  EXPECT_THAT(order, ElementsAre(TilePosition{0, 0}, TilePosition{1, 0}, TilePosition{0, 1},
                                 TilePosition{1, 1}, TilePosition{2, 0}, TilePosition{2, 1}));
}

struct Case {
  int tiles;
  int k_steps;
  int ctas;
  bool stream_k;

  Scheduler scheduler() const { return {{tiles, 1, 1}, k_steps, ctas, stream_k}; }
  std::string name() const {
    return std::to_string(tiles) + " tiles of " + std::to_string(k_steps) + " steps, " +
           std::to_string(ctas) + " CTAs" + (stream_k ? ", stream-K" : "");
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool stream_k : {false, true}) {
    for (int tiles = 0; tiles <= 23; ++tiles) {
      for (const int k_steps : {1, 2, 3, 7, 16}) {
        for (const int ctas : {1, 2, 3, 5, 8, 40}) all.push_back({tiles, k_steps, ctas, stream_k});
      }
    }
    for (const int tiles : {48, 131, 132, 133, 216, 264, 300, 864, 1729}) {
      for (const int k_steps : {1, 24, 48, 192}) {
        for (const int ctas : {66, 108, 132}) all.push_back({tiles, k_steps, ctas, stream_k});
      }
    }
  }
  return all;
}

// pieces[cta]: what the CTA does, in order.
std::vector<std::vector<Work>> run(const Case& test) {
  const Scheduler scheduler = test.scheduler();
  std::vector<std::vector<Work>> pieces(static_cast<std::size_t>(test.ctas));
  for (int cta = 0; cta < test.ctas; ++cta) {
    Scheduler::State state = scheduler.start(cta);
    for (Work work = scheduler.next(state); work.steps > 0; work = scheduler.next(state)) {
      pieces[static_cast<std::size_t>(cta)].push_back(work);
    }
    EXPECT_EQ(scheduler.next(state).steps, 0);  // the end stays the end
  }
  return pieces;
}

TEST(Scheduler, EveryStepIsDoneOnce) {
  for (const Case& test : cases()) {
    std::vector<int> done(static_cast<std::size_t>(test.tiles * test.k_steps));
    for (const auto& mine : run(test)) {
      for (const Work& work : mine) {
        ASSERT_TRUE(work.tile >= 0 && work.tile < test.tiles) << test.name();
        ASSERT_TRUE(work.first_step >= 0 && work.first_step + work.steps <= test.k_steps);
        const int first = work.tile * test.k_steps + work.first_step;
        for (int step = first; step < first + work.steps; ++step) {
          ++done[static_cast<std::size_t>(step)];
        }
      }
    }
    ASSERT_EQ(std::count(done.begin(), done.end(), 1), std::ssize(done)) << test.name();
  }
}

TEST(Scheduler, FlagsSayWhatAPieceIs) {
  for (const Case& test : cases()) {
    for (const auto& mine : run(test)) {
      for (const Work& work : mine) {
        ASSERT_EQ(work.owner, work.first_step == 0) << test.name();
        ASSERT_EQ(work.whole, work.steps == test.k_steps) << test.name();
      }
    }
  }
}

TEST(Scheduler, ACtaHasOneSlotOfPartialSumsAndWritesItFirst) {
  for (const Case& test : cases()) {
    for (const auto& mine : run(test)) {
      const auto not_owned = [](const Work& work) { return !work.owner; };
      ASSERT_LE(std::count_if(mine.begin(), mine.end(), not_owned), 1) << test.name();
      // Only whole tiles come before it: a CTA does not wait while others wait for it.
      for (auto work = std::find_if(mine.begin(), mine.end(), not_owned); work != mine.begin();) {
        if (work == mine.end()) break;
        --work;
        ASSERT_TRUE(work->whole) << test.name();
      }
    }
  }
}

// The CTAs that did parts of a tile they do not own, in the order of K.
std::vector<int> partial_ctas(const std::vector<std::vector<Work>>& pieces, int tile) {
  std::vector<std::pair<int, int>> by_step;
  for (std::size_t cta = 0; cta < pieces.size(); ++cta) {
    for (const Work& work : pieces[cta]) {
      if (work.tile == tile && !work.owner) by_step.emplace_back(work.first_step, cta);
    }
  }
  std::sort(by_step.begin(), by_step.end());
  std::vector<int> ctas;
  for (const auto& [step, cta] : by_step) ctas.push_back(cta);
  return ctas;
}

TEST(Scheduler, OwnersAddWhatWasComputedAndWaitForLowerBlocks) {
  for (const Case& test : cases()) {
    const Scheduler scheduler = test.scheduler();
    const auto pieces = run(test);
    for (int owner = 0; owner < test.ctas; ++owner) {
      for (const Work& work : pieces[static_cast<std::size_t>(owner)]) {
        if (!work.owner) continue;
        std::vector<int> promised;
        const ShareRange shares = scheduler.contributors(work.tile);
        for (int share = shares.begin; share < shares.end; share += shares.stride) {
          promised.push_back(scheduler.cta_of_share(share));
          ASSERT_LT(promised.back(), owner) << test.name();
        }
        ASSERT_EQ(promised.empty(), work.whole) << test.name();
        if (!work.whole) {
          ASSERT_EQ(promised, partial_ctas(pieces, work.tile)) << test.name();
        }
      }
    }
  }
}

TEST(Scheduler, WithoutStreamKCtasTakeTurns) {
  const auto pieces = run({.tiles = 7, .k_steps = 4, .ctas = 3, .stream_k = false});
  std::vector<int> first;
  for (const Work& work : pieces[0]) first.push_back(work.tile);
  EXPECT_THAT(first, ElementsAre(0, 3, 6));
  EXPECT_EQ(pieces[1].size(), 2u);
}

TEST(Scheduler, FullWavesNeedNoStreamK) {
  for (const auto& mine : run({.tiles = 12, .k_steps = 5, .ctas = 4, .stream_k = true})) {
    EXPECT_EQ(mine.size(), 3u);
    for (const Work& work : mine) EXPECT_TRUE(work.whole);
  }
}

// Into how many slices each tile of the last wave should be cut; 1: not at all.
int slices_of(const Case& test) {
  const int ragged = test.tiles % test.ctas;
  if (!test.stream_k || ragged == 0) return 1;
  return std::max(1, std::min(test.ctas / ragged, test.k_steps));
}

TEST(Scheduler, StreamKCutsTheRaggedWaveOnly) {
  for (const Case& test : cases()) {
    const int whole = slices_of(test) > 1 ? test.tiles / test.ctas * test.ctas : test.tiles;
    for (const auto& mine : run(test)) {
      for (const Work& work : mine) {
        ASSERT_EQ(work.whole, work.tile < whole) << test.name();
      }
    }
  }
}

TEST(Scheduler, StreamKChangesNothingWithoutTwoCtasForEachTile) {
  const auto same = [](const Work& one, const Work& other) {
    return one.tile == other.tile && one.first_step == other.first_step &&
           one.steps == other.steps && one.owner == other.owner && one.whole == other.whole;
  };
  for (const Case& test : cases()) {
    if (!test.stream_k || slices_of(test) > 1) continue;
    Case without = test;
    without.stream_k = false;
    const auto pieces = run(test), expected = run(without);
    for (std::size_t cta = 0; cta < pieces.size(); ++cta) {
      ASSERT_TRUE(std::equal(pieces[cta].begin(), pieces[cta].end(), expected[cta].begin(),
                             expected[cta].end(), same))
          << test.name();
    }
  }
}

// [begin, end) along K of the pieces that are no whole tiles, and how many tiles each is of.
std::map<std::pair<int, int>, int> ranges_of(const std::vector<std::vector<Work>>& pieces) {
  std::map<std::pair<int, int>, int> ranges;
  for (const auto& mine : pieces) {
    for (const Work& work : mine) {
      if (!work.whole) ++ranges[{work.first_step, work.first_step + work.steps}];
    }
  }
  return ranges;
}

TEST(Scheduler, EveryCutTileHasTheSameSlicesOfEqualSize) {
  for (const Case& test : cases()) {
    if (slices_of(test) == 1) continue;
    const auto ranges = ranges_of(run(test));
    ASSERT_EQ(std::ssize(ranges), slices_of(test)) << test.name();
    int least = test.k_steps, most = 0;
    for (const auto& [range, tiles] : ranges) {
      ASSERT_EQ(tiles, test.tiles % test.ctas) << test.name();
      least = std::min(least, range.second - range.first);
      most = std::max(most, range.second - range.first);
    }
    ASSERT_LE(most - least, 1) << test.name();
  }
}

// What a slice reads is shared in L2: its CTAs, which are neighbours, walk over the same channels.
TEST(Scheduler, NeighboursHaveTheSameSlice) {
  const auto pieces = run({.tiles = 10 + 3, .k_steps = 8, .ctas = 10, .stream_k = true});
  std::vector<int> first_steps;
  for (const auto& mine : pieces) {
    if (mine.size() == 2) first_steps.push_back(mine[1].first_step);
  }
  EXPECT_THAT(first_steps, ElementsAre(5, 5, 5, 2, 2, 2, 0, 0, 0));
}

TEST(Scheduler, IsKnownAtCompileTime) {
  constexpr Scheduler kScheduler({3, 1, 1}, 4, 2, true);
  constexpr int kSteps = [](Scheduler scheduler) {
    Scheduler::State state = scheduler.start(1);
    return scheduler.next(state).steps + scheduler.next(state).steps;
  }(kScheduler);
  static_assert(kSteps == 6);
}

}  // namespace
}  // namespace rtlynx::gpu
