// SPDX-License-Identifier: Apache-2.0
// What the kernels write behind their workspace's base has to fit into what callers are asked for.
#include "kernels/workspace.h"

#include <gtest/gtest.h>

#include "kernels/gemm/sm90/tile.h"
#include "kernels/gemm/workspace.h"
#include "kernels/pack/workspace.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

constexpr std::size_t kWord = 4;

TEST(Workspace, BeginsWithRoomForTheFlagsOfBothKernels) {
  // A warpgroup computes 64 tokens of a tile.
  EXPECT_GE(gpu::Gemm24Workspace::kFlagsPerCta, gpu::kSm90TileTokens / kPackedTileTokens);
  for (const std::size_t multiprocessors : {1, 20, 78, 132, 148}) {
    const std::size_t zeroed = gpu::zeroed_bytes(static_cast<int>(multiprocessors));
    EXPECT_EQ(zeroed % 256, 0U);
    EXPECT_GE(zeroed, multiprocessors * gpu::Gemm24Workspace::kFlagsPerCta * kWord);
    EXPECT_GE(zeroed, multiprocessors * pack::Workspace::kMostCtasPerSm * kWord);
  }
}

TEST(Workspace, HoldsTwoPartsOfEveryPackingCta) {
  constexpr std::size_t kTokens = 128;
  for (const std::size_t multiprocessors : {1, 132}) {
    const auto bytes = [&](int columns) {
      return pack::Workspace::bytes(static_cast<int>(multiprocessors), columns) -
             gpu::zeroed_bytes(static_cast<int>(multiprocessors));
    };
    // 16 bytes of sums a token, and its columns of H in fp32: 64 in each of two CTAs of a
    // multiprocessor.
    EXPECT_GE(bytes(0), 2 * 2 * multiprocessors * kTokens * 16);
    EXPECT_GE(bytes(64), 2 * 2 * multiprocessors * kTokens * (16 + 64 * kWord));
    // Or 128 in one that has it to itself; more columns are further CTAs.
    EXPECT_GE(bytes(128), 2 * multiprocessors * kTokens * (16 + 128 * kWord));
    EXPECT_EQ(bytes(256), bytes(64));
  }
}

TEST(Workspace, HoldsAPartialTileOfEveryCta) {
  constexpr std::size_t kMultiprocessors = 132;
  EXPECT_GE(gpu::Gemm24Workspace::bytes(kMultiprocessors, 128, 256),
            gpu::zeroed_bytes(kMultiprocessors) + kMultiprocessors * 128 * 256 * kWord);
}

}  // namespace
}  // namespace rtlynx
