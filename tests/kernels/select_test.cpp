// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/gemm/scheduler.h"
#include "kernels/gemm/workspace.h"

namespace rtlynx::gpu {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;
using Path = Gemm24Config::Path;

constexpr DeviceTraits kDevice{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = kSm90SharedBytes};
constexpr Gemm24Shape kLarge{.tokens = 16384, .outputs = 12288, .channels = 3072, .rank = 64};

TEST(SelectGemm24, SizesBelowOneAreErrors) {
  EXPECT_THAT(
      [] { select_gemm24({.tokens = 0, .outputs = 8, .channels = 16}, kDevice); },
      ThrowsMessage<Error>("select_gemm24: required M, N and K of at least 1, got 0, 8 and 16"));
}

TEST(SelectGemm24, WhatCannotRunIsDenseWithTheReason) {
  const auto changed = [](auto member, auto value) {
    Gemm24Shape shape = kLarge;
    shape.*member = value;
    return shape;
  };
  const std::vector<std::pair<Gemm24Shape, std::string>> refused{
      {changed(&Gemm24Shape::dtype, DType::f32),
       "dense: the sparse kernels take f16 or bf16, not f32"},
      {changed(&Gemm24Shape::outputs, 12292), "dense: N = 12292 is not divisible by 8"},
      {changed(&Gemm24Shape::channels, 3080), "dense: K = 3080 is not divisible by 16"},
      {changed(&Gemm24Shape::rank, 24), "dense: rank 24 is not a multiple of 16 up to 128"},
      {changed(&Gemm24Shape::rank, 144), "dense: rank 144 is not a multiple of 16 up to 128"},
      {changed(&Gemm24Shape::rank, -16), "dense: rank -16 is not a multiple of 16 up to 128"}};
  for (const auto& [shape, reason] : refused) {
    const Gemm24Choice choice = select_gemm24(shape, kDevice);
    EXPECT_EQ(choice.config, Gemm24Config{});
    EXPECT_EQ(choice.reason, reason);
  }
}

DeviceTraits traits_of(int compute_capability, int multiprocessors, int shared_bytes) {
  return {.compute_capability = compute_capability,
          .multiprocessors = multiprocessors,
          .shared_bytes = shared_bytes};
}

TEST(SelectGemm24, DevicesThatCannotRunItAreDenseWithTheReason) {
  const std::vector<std::pair<DeviceTraits, std::string>> refused{
      {traits_of(75, 40, 65536),
       "dense: Sparse Tensor Cores need compute capability 8.0, the device has 7.5"},
      {{}, "dense: Sparse Tensor Cores need compute capability 8.0, the device has 0.0"},
      {traits_of(90, 0, kSm90SharedBytes), "dense: the number of multiprocessors is not known"},
      {traits_of(90, 132, 101376),
       "dense: the sm90 kernels need 232448 bytes of shared memory per block, the device has "
       "101376"},
      {traits_of(80, 108, 166912),
       "dense: the sm80 path was not measured on compute capability 8.0"},
      {traits_of(100, 148, 232448),
       "dense: the sm80 path was not measured on compute capability 10.0"}};
  for (const auto& [traits, reason] : refused) {
    const Gemm24Choice choice = select_gemm24(kLarge, traits);
    EXPECT_EQ(choice.config.path, Path::dense);
    EXPECT_EQ(choice.reason, reason);
  }
}

// Round numbers: with 100 multiprocessors, a step takes 1 us and the rest of a tile 1 us more.
// Dense: 2 us a step.
constexpr double kStepTflops = 2.0 * 128 * 256 * 64 * 100 / 1e6;
constexpr std::array<MeasuredDense, 1> kDense{{{128, 256, kStepTflops / 2}}};
constexpr Gemm24Config kMeasuredConfig{
    .path = Path::sm90, .tile_tokens = 128, .tile_outputs = 256, .cluster = 1, .group_tiles = 5};
constexpr std::array<MeasuredShape, 2> kShapes{
    {{1000, 1024, 640, 32, kMeasuredConfig, 5, 6}, {1001, 1024, 640, 32, kMeasuredConfig, 8, 7}}};
constexpr Measurements kRound{.gpu = "H1",
                              .compute_capability = 90,
                              .multiprocessors = 100,
                              .cluster = 2,
                              .group_tiles = 18,
                              .launch_us = 2.0,
                              .step_us = 1.0,
                              .tile_us = 1.0,
                              .fixup_us = 3.0,
                              .terabytes_per_second = 1000.0,
                              .dense = kDense,
                              .shapes = kShapes};

DeviceTraits with_multiprocessors(int count) {
  return {.compute_capability = 90, .multiprocessors = count, .shared_bytes = kSm90SharedBytes};
}

Gemm24Shape tiles(std::int64_t down, std::int64_t across, std::int64_t steps, int rank = 0) {
  return {.tokens = 128 * down, .outputs = 256 * across, .channels = 64 * steps, .rank = rank};
}

Gemm24Choice choose(const Gemm24Shape& shape, int multiprocessors = 100,
                    const Measurements& measured = kRound) {
  return select_gemm24(shape, with_multiprocessors(multiprocessors), measured);
}

TEST(SelectGemm24, FullWavesNeedNoStreamK) {
  // 2 + (20 + 1); dense 2 + 40.
  EXPECT_EQ(choose(tiles(10, 10, 20)).reason,
            "sm90 128x256 cluster 2: estimated 23.0 us, dense 42.0 us (measured on an H1)");
}

TEST(SelectGemm24, RaggedWavesAreCutWhereThatPays) {
  // 10 tiles in 10 slices of 2 steps: 2 + 21 + (2 + 1) + 3 and not 2 + 2 * 21; dense 2 + 2 * 40.
  EXPECT_EQ(
      choose(tiles(11, 10, 20)).reason,
      "sm90 128x256 cluster 2 stream-K: estimated 29.0 us, dense 82.0 us (measured on an H1)");
  // 30 tiles in 3 slices of at most 7 steps: 2 + 21 + (7 + 1) + 3.
  EXPECT_THAT(choose(tiles(13, 10, 20)).reason, HasSubstr("stream-K: estimated 34.0 us"));
  // 60 tiles: no two multiprocessors for each.
  EXPECT_THAT(choose(tiles(16, 10, 20)).reason, HasSubstr("cluster 2: estimated 44.0 us"));
  // 2 + 2 * (2 + 1) and not 2 + 3 + (1 + 1) + 3; dense 2 + 2 * 4.
  EXPECT_EQ(choose(tiles(11, 10, 2)).reason,
            "sm90 128x256 cluster 2: estimated 8.0 us, dense 10.0 us (measured on an H1)");
}

TEST(SelectGemm24, LowRankTakesSteps) {
  EXPECT_THAT(choose(tiles(10, 10, 20, 16)).reason, HasSubstr("estimated 24.0 us, dense 42.0 us"));
  EXPECT_THAT(choose(tiles(10, 10, 20, 64)).reason, HasSubstr("estimated 25.0 us, dense 42.0 us"));
}

TEST(SelectGemm24, AnOtherNumberOfMultiprocessorsMakesOtherWaves) {
  // 100 tiles on 50: two waves at the same speed per multiprocessor.
  EXPECT_THAT(choose(tiles(10, 10, 20), 50).reason, HasSubstr("estimated 44.0 us, dense 82.0 us"));
}

TEST(SelectGemm24, ClustersAreScheduledWhole) {
  // Of 99 tiles 98 run at once on 99 multiprocessors: 2 + 21 + (1 + 1) + 3.
  EXPECT_THAT(choose(tiles(11, 9, 20), 99).reason,
              HasSubstr("stream-K: estimated 28.0 us, dense 42.0 us"));
  const Gemm24Choice alone = choose(tiles(1, 1, 20), 1);
  EXPECT_EQ(alone.config.cluster, 1);
  EXPECT_THAT(alone.reason, HasSubstr("sm90 128x256: estimated 23.0 us"));
}

TEST(SelectGemm24, GroupsOfTokenTilesAreOfEqualHeight) {
  for (const auto& [token_tiles, group] : {std::pair<int, int>{1, 1},
                                           {18, 18},
                                           {26, 26},
                                           {27, 14},
                                           {33, 17},
                                           {36, 18},
                                           {54, 18},
                                           {55, 19}}) {
    EXPECT_EQ(choose(tiles(token_tiles, 50, 20)).config.group_tiles, group) << token_tiles;
  }
}

TEST(SelectGemm24, DenseWinsWhereItIsFasterOrAsFast) {
  Measurements slow = kRound;
  slow.tile_us = 30.0;
  EXPECT_EQ(choose(tiles(10, 10, 20), 100, slow).reason,
            "dense: estimated 42.0 us, sm90 128x256 cluster 2 52.0 us (measured on an H1)");
  // Both only wait for memory.
  Measurements starved = kRound;
  starved.terabytes_per_second = 0.001;
  EXPECT_THAT(choose(tiles(1, 10, 20), 100, starved).reason, HasSubstr("dense: "));
}

TEST(SelectGemm24, DenseIsCutToFillTheGpuToo) {
  // 25 tiles: dense 2 + 40 * 25 / 100 and not 2 + 40; sparse in 4 slices 2 + (5 + 1) + 3.
  EXPECT_THAT(choose(tiles(5, 5, 20)).reason, HasSubstr("estimated 11.0 us, dense 12.0 us"));
}

TEST(SelectGemm24, MeasuredShapesGoBeforeTheModel) {
  const DeviceTraits device = with_multiprocessors(100);
  const Gemm24Shape shape{.tokens = 1000, .outputs = 1024, .channels = 640, .rank = 32};
  const auto choice = select_gemm24(shape, device, kRound);
  EXPECT_EQ(choice.config, kMeasuredConfig);
  EXPECT_EQ(choice.reason, "sm90 128x256: measured 5.0 us, dense 6.0 us (on an H1)");

  Gemm24Shape slower = shape;
  slower.tokens = 1001;
  EXPECT_EQ(select_gemm24(slower, device, kRound).reason,
            "dense: measured 7.0 us, sm90 128x256 8.0 us (on an H1)");

  EXPECT_THAT(select_gemm24(shape, with_multiprocessors(50), kRound).reason,
              HasSubstr("estimated"));
  Gemm24Shape other_rank = shape;
  other_rank.rank = 16;
  EXPECT_THAT(select_gemm24(other_rank, device, kRound).reason, HasSubstr("estimated"));
}

TEST(SelectGemm24, ThePackBeforeTheProductCounts) {
  // 10 x 10 tiles: one wave of 10 steps, 13 us with the launch; dense 22 us.
  const Gemm24Shape shape = tiles(10, 10, 10);
  EXPECT_EQ(choose(shape).config.path, Path::sm90);
  Measurements slow_pack = kRound;
  slow_pack.pack_us = 8.9;
  EXPECT_EQ(choose(shape, 100, slow_pack).config.path, Path::sm90);
  slow_pack.pack_us = 9.1;
  EXPECT_EQ(choose(shape, 100, slow_pack).config.path, Path::dense);
  slow_pack.pack_us = 0;
  slow_pack.pack_us_per_megabyte = 9.1 / (3.125 * 1280 * 640 / 1e6);
  EXPECT_EQ(choose(shape, 100, slow_pack).config.path, Path::dense);
}

TEST(SelectGemm24, AnEstimateHasToBeClearlyBelowDense) {
  // As above, 13 us against 22 us.
  Measurements careful = kRound;
  careful.estimate_margin = 1.6;
  EXPECT_EQ(choose(tiles(10, 10, 10), 100, careful).config.path, Path::sm90);
  careful.estimate_margin = 1.8;
  const Gemm24Choice choice = choose(tiles(10, 10, 10), 100, careful);
  EXPECT_EQ(choice.config.path, Path::dense);
  EXPECT_THAT(choice.reason, HasSubstr("too close to tell"));
}

TEST(SelectGemm24, TheH200KnowsTheShapesThatWereMeasured) {
  const DeviceTraits h200{
      .compute_capability = 90, .multiprocessors = 132, .shared_bytes = kSm90SharedBytes};
  for (const MeasuredShape& known : kH200Shapes) {
    const Gemm24Shape shape{known.tokens, known.outputs, known.channels, known.rank, DType::bf16};
    const Gemm24Choice choice = select_gemm24(shape, h200);
    EXPECT_THAT(choice.reason, HasSubstr("measured"));
    EXPECT_EQ(choice.config.path, known.sparse_us < known.dense_us ? Path::sm90 : Path::dense);
  }
}

TEST(SelectGemm24, FewTokensAreDense) {
  Measurements measured = kRound;
  measured.least_tokens = 1281;
  const Gemm24Choice choice = choose(tiles(10, 10, 10), 100, measured);
  EXPECT_EQ(choice.config.path, Path::dense);
  EXPECT_EQ(choice.reason, "dense: with fewer than 1281 tokens it was faster (measured on an H1)");
}

TEST(SelectGemm24, HugeShapesDoNotOverflow) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 60;
  const auto choice =
      select_gemm24({.tokens = kHuge, .outputs = kHuge, .channels = kHuge}, kDevice);
  EXPECT_EQ(choice.config.path, Path::sm90);
  EXPECT_THAT(choice.reason, AllOf(Not(HasSubstr("-")), Not(HasSubstr("inf"))));
}

TEST(SelectGemm24, BuiltInMeasurementsAreUsable) {
  for (const MeasuredDense& tile : kH200.dense) EXPECT_GT(tile.tflops, 0);
  for (const MeasuredShape& shape : kH200.shapes) EXPECT_TRUE(is_sm90_config(shape.config));
  EXPECT_TRUE(is_sm90_config(select_gemm24(kLarge, kDevice).config));
  EXPECT_EQ(select_gemm24(kLarge, kDevice).config.path, Path::sm90);
  EXPECT_EQ(select_gemm24({.tokens = 1, .outputs = 3072, .channels = 3072}, kDevice).config.path,
            Path::dense);
}

TEST(SelectGemm24, OnlyWhatWasBuiltIsAnSm90Config) {
  EXPECT_TRUE(is_sm90_config(kMeasuredConfig));
  EXPECT_FALSE(is_sm90_config({}));
  EXPECT_FALSE(is_sm90_config({.path = Path::sm80, .tile_tokens = 128, .tile_outputs = 256}));
  for (const auto& [member, value] : {std::pair{&Gemm24Config::tile_tokens, 256},
                                      {&Gemm24Config::tile_outputs, 192},
                                      {&Gemm24Config::cluster, 0},
                                      {&Gemm24Config::cluster, 4},
                                      {&Gemm24Config::group_tiles, 0}}) {
    Gemm24Config other = kMeasuredConfig;
    other.*member = value;
    EXPECT_FALSE(is_sm90_config(other));
  }
}

// What the choice assumes of stream-K is what the kernel's scheduler does.
TEST(SelectGemm24, SlicesAreThoseOfTheScheduler) {
  for (int down = 1; down <= 12; ++down) {
    for (const int steps : {1, 2, 5, 48}) {
      for (const int ctas : {2, 7, 10, 132}) {
        const Scheduler scheduler({down, 3, 1}, steps + 2, ctas, /*stream_k=*/true);
        const ShareRange others = scheduler.contributors(3 * down - 1);
        const int slices = 1 + (others.end - others.begin + others.stride - 1) / others.stride;
        EXPECT_EQ(stream_k_slices(tiles(down, 3, steps, /*rank=*/48), ctas), slices)
            << down << " x 3 tiles, " << steps << " steps, " << ctas << " CTAs";
      }
    }
  }
}

TEST(SelectGemm24, StreamKNeedsAPartialTilePerMultiprocessorAndFlags) {
  const Gemm24Config config{
      .path = Path::sm90, .tile_tokens = 128, .tile_outputs = 256, .stream_k = true};
  const std::size_t bytes = product24_workspace_bytes(config, kDevice);
  EXPECT_EQ(bytes, Gemm24Workspace::bytes(132, 128, 256));
  EXPECT_GT(bytes, 132u * 128u * 256u * 4u);
}

TEST(SelectGemm24, NoWorkspaceIsNeededWithoutStreamK) {
  EXPECT_EQ(product24_workspace_bytes({}, kDevice), 0u);
  EXPECT_EQ(product24_workspace_bytes({.path = Path::sm90, .tile_tokens = 128, .tile_outputs = 256},
                                      kDevice),
            0u);
  EXPECT_EQ(product24_workspace_bytes({.path = Path::sm80, .stream_k = true}, kDevice), 0u);
}

TEST(SelectGemm24, NamesSayWhatDistinguishesConfigurations) {
  EXPECT_EQ(describe({}), "dense");
  EXPECT_EQ(describe({.path = Path::sm80}), "sm80");
  EXPECT_EQ(describe({.path = Path::sm90,
                      .tile_tokens = 128,
                      .tile_outputs = 256,
                      .cluster = 2,
                      .stream_k = true}),
            "sm90 128x256 cluster 2 stream-K");
}

}  // namespace
}  // namespace rtlynx::gpu
