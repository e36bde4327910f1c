// SPDX-License-Identifier: Apache-2.0
// The index maps of the mma.sp kernel of sm_80 and later: what is copied where, and its banks.
#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <utility>

#include "kernels/gemm/sm80/layout.h"

namespace rtlynx {
namespace {

using namespace sm80;

TEST(PortableLayout, EveryTileBelongsToOneBlock) {
  for (const auto& [token_tiles, output_tiles] :
       {std::pair<int, int>{1, 1}, {7, 3}, {8, 5}, {9, 4}, {35, 24}}) {
    std::set<std::pair<int, int>> seen;
    for (int block = 0; block < token_tiles * output_tiles; ++block) {
      const Tile tile = tile_of(block, token_tiles, output_tiles);
      EXPECT_TRUE(tile.tokens >= 0 && tile.tokens < token_tiles);
      EXPECT_TRUE(tile.outputs >= 0 && tile.outputs < output_tiles);
      seen.insert({tile.tokens, tile.outputs});
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(token_tiles * output_tiles));
  }
}

TEST(PortableLayout, EveryChunkIsCopiedOnce) {
  std::multiset<int> operand;
  std::multiset<int> weight;
  std::multiset<int> low_rank;
  for (int thread = 0; thread < kThreads; ++thread) {
    for (int i = 0; i < kOperandCopies; ++i) {
      const int chunk = operand_copy(thread, i);
      if (chunk < kOperandChunks) operand.insert(chunk);
    }
    for (int i = 0; i < kWeightCopies; ++i) {
      const ChunkPlace at = weight_copy(thread, i);
      weight.insert(weight_chunk_offset(at.row, at.chunk) / kChunkBytes);
    }
    for (int i = 0; i < kLowRankCopies; ++i) {
      const ChunkPlace at = low_rank_copy(thread, i);
      low_rank.insert(narrow_chunk_offset(at.row, at.chunk) / kChunkBytes);
    }
  }
  const auto expect_all = [](const std::multiset<int>& chunks, int count) {
    ASSERT_EQ(chunks.size(), static_cast<std::size_t>(count));
    int expected = 0;
    for (const int chunk : chunks) EXPECT_EQ(chunk, expected++);
  };
  expect_all(operand, kOperandChunks);
  expect_all(weight, kWeightBytes / kChunkBytes);
  expect_all(low_rank, kTileTokens * kRankStep * 2 / kChunkBytes);
}

/// Shared memory serves 128 bytes at once: 8 lanes of 16 bytes, 16 of 8, 32 of 4. They have to fall
/// into different banks, of which there are 32 of 4 bytes.
template <typename Offset>
void expect_no_conflict(const char* access, int bytes, Offset offset) {
  const int lanes = 128 / bytes;
  for (int first = 0; first < 32; first += lanes) {
    std::set<int> banks;
    for (int lane = first; lane < first + lanes; ++lane) {
      EXPECT_EQ(offset(lane) % bytes, 0) << access << ", lane " << lane;
      banks.insert(offset(lane) % 128 / bytes);
    }
    EXPECT_EQ(banks.size(), static_cast<std::size_t>(lanes)) << access << ", lane " << first;
  }
}

TEST(PortableLayout, CopiesMeetAllBanks) {
  for (int thread = 0; thread < kThreads; thread += 32) {
    for (int i = 0; i < kWeightCopies; ++i) {
      expect_no_conflict("operand", 16,
                         [&](int lane) { return operand_copy(thread + lane, i) * kChunkBytes; });
      expect_no_conflict("weight", 16, [&](int lane) {
        const ChunkPlace at = weight_copy(thread + lane, i);
        return kOperandBytes + weight_chunk_offset(at.row, at.chunk);
      });
      expect_no_conflict("low rank", 16, [&](int lane) {
        const ChunkPlace at = low_rank_copy(thread + lane, i);
        return narrow_chunk_offset(at.row, at.chunk);
      });
    }
  }
}

TEST(PortableLayout, FragmentReadsMeetAllBanks) {
  for (int warp = 0; warp < kWarps; ++warp) {
    for (int half = 0; half < 2; ++half) {
      for (int m = 0; m < kTokenFragments; ++m) {
        expect_no_conflict("values", 16, [&](int lane) { return value_row(warp, m, half, lane); });
        expect_no_conflict("metadata", 4, [&](int lane) { return metadata_word(warp, m, lane); });
        expect_no_conflict("low", 16, [&](int lane) { return low_row(warp, m, half, lane); });
      }
      for (int n = 0; n < kOutputFragments; ++n) {
        expect_no_conflict("weight", 16, [&](int lane) { return weight_row(warp, n, half, lane); });
        expect_no_conflict("up", 16, [&](int lane) { return up_row(warp, n, half, lane); });
      }
    }
  }
}

TEST(PortableLayout, StagingMeetsAllBanks) {
  for (int m = 0; m < kTokenFragments; ++m) {
    for (int n = 0; n < kOutputFragments; ++n) {
      for (int pair = 0; pair < 2; ++pair) {
        expect_no_conflict("pairs", 8, [&](int lane) {
          const Place at = accumulator_pair(m, n, pair, lane);
          return staging_offset(at.row, at.column);
        });
      }
    }
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int chunk = 0; chunk < 2; ++chunk) {
      expect_no_conflict("rows", 16, [&](int lane) {
        const Place at = finished_by(pass, lane);
        return staging_offset(at.row, at.column + 4 * chunk);
      });
    }
  }
}

TEST(PortableLayout, SharedMemoryFitsEveryGpuSinceSm80) {
  EXPECT_LE(kSharedBytes, 99 * 1024);               // sm_86, sm_89: per block
  EXPECT_LE(2 * (kSharedBytes + 1024), 164 << 10);  // sm_80: two blocks and what the system takes
}

}  // namespace
}  // namespace rtlynx
