// SPDX-License-Identifier: Apache-2.0
#include "models/vae/tiling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "refusal.h"

namespace rtlynx {
namespace {

using testing::HasSubstr;

TEST(TileSpans, OneTileWhereTheLengthFits) {
  for (const std::int64_t length : {1, 7, 8}) {
    const auto spans = tile_spans(length, 8, 2);
    ASSERT_EQ(spans.size(), 1u);
    EXPECT_EQ(spans[0].start, 0);
    EXPECT_EQ(spans[0].size, length);
  }
}

TEST(TileSpans, AreEqualCoverTheLengthAndShareEnough) {
  for (std::int64_t length = 9; length < 200; ++length) {
    for (const std::int64_t tile : {8, 13, 64}) {
      for (const std::int64_t overlap : {std::int64_t{0}, tile / 4, tile / 2}) {
        const auto spans = tile_spans(length, tile, overlap);
        EXPECT_EQ(spans.front().start, 0);
        EXPECT_EQ(spans.back().end(), length);
        for (std::size_t i = 0; i < spans.size(); ++i) {
          EXPECT_EQ(spans[i].size, spans[0].size);
          EXPECT_LE(spans[i].size, std::max(tile, std::int64_t{1}));
          if (i > 0) {
            EXPECT_GE(spans[i - 1].end() - spans[i].start, overlap);
            EXPECT_GT(spans[i].start, spans[i - 1].start);
          }
        }
        // The fewest: one less would not reach the end.
        const auto count = std::ssize(spans);
        EXPECT_LT((count - 1) * (tile - overlap) + overlap, std::max(length, tile + 1))
            << length << " " << tile << " " << overlap;
      }
    }
  }
}

TEST(TileSpans, AnOverlapAsLargeAsTheTileIsRefused) {
  EXPECT_THAT(refusal([] { tile_spans(10, 4, 4); }), HasSubstr("got overlap 4, tile 4"));
  EXPECT_THAT(refusal([] { tile_spans(10, 0, 0); }), HasSubstr("got overlap 0, tile 0"));
}

TEST(RunTiled, WhatDoesNotDependOnTheTileIsUnchanged) {
  const torch::Tensor x = torch::randn({1, 2, 11, 17}, torch::kFloat64);
  const auto enlarge = [](const torch::Tensor& tile) {
    return tile.repeat_interleave(3, 2).repeat_interleave(3, 3);
  };
  const torch::Tensor tiled =
      run_tiled(x, tile_spans(11, 4, 2), tile_spans(17, 5, 1), {.output = 3}, enlarge);
  EXPECT_TRUE(torch::allclose(tiled, enlarge(x), 1e-12, 1e-12));
}

TEST(RunTiled, InputsMayBeLargerThanOutputs) {
  const torch::Tensor x = torch::randn({1, 1, 24, 12}, torch::kFloat64);
  const auto shrink = [](const torch::Tensor& tile) { return torch::avg_pool2d(tile, 4); };
  const torch::Tensor tiled =
      run_tiled(x, tile_spans(6, 3, 1), tile_spans(3, 2, 1), {.input = 4}, shrink);
  EXPECT_TRUE(torch::allclose(tiled, shrink(x), 1e-12, 1e-12));
}

TEST(RunTiled, TheLaterTileFadesInLinearly) {
  float value = 0;
  const auto constant = [&](const torch::Tensor& tile) {
    value += 1;
    return torch::full_like(tile, value);
  };
  const torch::Tensor row =
      run_tiled(torch::zeros({1, 1, 1, 6}), {{.start = 0, .size = 1}},
                {{.start = 0, .size = 4}, {.start = 2, .size = 4}}, {}, constant);
  EXPECT_TRUE(row.flatten().equal(torch::tensor({1.0f, 1.0f, 1.0f, 1.5f, 2.0f, 2.0f})));
}

}  // namespace
}  // namespace rtlynx
