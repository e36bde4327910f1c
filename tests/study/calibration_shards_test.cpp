// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_shards.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "refusal.h"
#include "study/calibration_passes.h"
#include "study/calibration_shard.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using Files = std::vector<std::filesystem::path>;

class Shards : public testing::Test {
 protected:
  CalibrateOptions options(const char* transform = "none") const {
    return {.run = {.prompts = 5, .steps = 1, .guidance = 3.0, .batch = 1},
            .rows = 64,
            .transform = transform_choice_from_string(transform),
            .solve = {.method = CompensationMethod::joint, .rank = 16},
            .statistics = folder_ / "sums"};
  }

  std::filesystem::path file(int index) const {
    return folder_ / ("shard-" + std::to_string(index));
  }

  // Shards of 1, 2 and 2 prompts.
  Files files() const { return {file(1), file(2), file(3)}; }

  ShardProgress collect(CalibrateOptions of, CalibrationShard shard,
                        const std::filesystem::path& inputs = {}) {
    of.statistics = file(shard.index);
    of.shard = shard;
    return collect_shard(pipeline_, of, inputs);
  }

  void collect_all(const CalibrateOptions& of, ShardProgress expected,
                   const std::filesystem::path& inputs = {}) {
    for (int index = 1; index <= 3; ++index) {
      EXPECT_EQ(collect(of, {.index = index, .count = 3}, inputs), expected);
    }
  }

  std::string merge_refusal(const Files& shards) {
    return refusal([&] { merge_shards(pipeline_, options(), shards); });
  }

  // Of the sums in options().statistics.
  CalibrationSums sums(const CalibrateOptions& of) {
    return collect_sums(pipeline_, of, [](const auto&) { return false; }).value();
  }

  static void expect_close(const CalibrationSums& a, const CalibrationSums& b, double tolerance) {
    ASSERT_EQ(a.moments.size(), b.moments.size());
    for (const auto& [group, one] : a.moments) {
      const InputMoments& other = b.moments.at(group);
      EXPECT_EQ(one.tokens, other.tokens);
      for (const auto& [x, y] : {std::pair(one.xx, other.xx), std::pair(one.xs, other.xs),
                                 std::pair(one.ss, other.ss)}) {
        EXPECT_LE((x - y).abs().max().item<double>(), tolerance * y.abs().max().item<double>())
            << group;
      }
    }
  }

  test::TempDir folder_;
  Pipeline pipeline_ = test::small_pipeline();
};

TEST_F(Shards, MergedAreOneProcess) {
  collect_all(options(), ShardProgress::finished);
  CalibrateOptions apart = options();
  apart.statistics.clear();
  const CalibrationSums whole = collect_sums(pipeline_, apart).value();
  // The order of the files does not matter, not to the bit.
  ASSERT_EQ(merge_shards(pipeline_, options(), {file(3), file(1), file(2)}),
            ShardProgress::finished);
  const CalibrationSums merged = sums(options());
  expect_close(merged, whole, 1e-14);
  std::filesystem::remove(options().statistics);
  ASSERT_EQ(merge_shards(pipeline_, options(), files()), ShardProgress::finished);
  expect_close(sums(options()), merged, 0);
  // What is solved from them differs by less than bf16 does.
  const CalibrateResult one = solve_layers(pipeline_, whole, options());
  const CalibrateResult added = calibrate(pipeline_, options());
  for (std::size_t i = 0; i < one.layers.size(); ++i) {
    EXPECT_NEAR(added.layers[i].solution.error, one.layers[i].solution.error, 1e-6);
  }
}

TEST_F(Shards, TransformsOfTheInputsTakeTwoRounds) {
  const CalibrateOptions blocks = options("16");
  collect_all(blocks, ShardProgress::inputs_ready);
  ASSERT_EQ(merge_shards(pipeline_, blocks, files()), ShardProgress::inputs_ready);
  collect_all(blocks, ShardProgress::finished, blocks.statistics);
  ASSERT_EQ(merge_shards(pipeline_, blocks, files()), ShardProgress::finished);
  const CalibrationSums merged = sums(blocks);
  // One process that goes on from the merged first round sees the same transforms.
  CalibrateOptions alone = blocks;
  alone.statistics = folder_ / "alone";
  collect_sums(pipeline_, alone);
  const CalibrationSums whole = sums(alone);
  for (const auto& [group, transform] : whole.transforms) {
    EXPECT_TRUE(merged.transforms.at(group).blocks.allclose(transform.blocks, 1e-2, 1e-2)) << group;
  }
  // A block's axes are rounded to bf16 before they are used: the last bit may differ.
  expect_close(merged, whole, 1e-2);
}

TEST_F(Shards, GoOnWhereTheyStopped) {
  CalibrateOptions of = options();
  of.shard = {.index = 2, .count = 3};
  of.statistics = file(2);
  const auto stop = [](const CalibrateProgress&) { return false; };
  EXPECT_EQ(collect_shard(pipeline_, of, {}, stop), ShardProgress::stopped);
  collect(options(), {.index = 1, .count = 3});
  collect(options(), {.index = 3, .count = 3});
  EXPECT_NE(merge_refusal(files()).find("shard 2/3: required all of its 2 prompts, got 1"),
            std::string::npos)
      << merge_refusal(files());
  EXPECT_EQ(collect_shard(pipeline_, of, {}, stop), ShardProgress::finished);
  EXPECT_EQ(merge_refusal(files()), "accepted");
}

TEST_F(Shards, PartsAreMergedOneByOne) {
  CalibrateOptions tight = options();
  tight.run.prompts = 2;
  tight.memory = 24 * 256 * 256;
  ASSERT_GT(statistics_files(pipeline_, tight).size(), 2U);
  for (const int index : {1, 2}) collect(tight, {.index = index, .count = 2});
  merge_shards(pipeline_, tight, {file(1), file(2)});
  const CalibrateResult merged = calibrate(pipeline_, tight, [&](const CalibrateProgress&) {
    ADD_FAILURE() << "draws";
    return true;
  });
  EXPECT_EQ(merged.layers.size(), 14U);
  for (const CalibratedLayer& layer : merged.layers) {
    // Two guidance branches of 24 tokens of text; of the others `rows`.
    const bool text = layer.input.find("added") != std::string::npos ||
                      layer.input.find("context") != std::string::npos;
    EXPECT_EQ(layer.tokens, 2 * (text ? 48 : 64)) << layer.input;
  }
}

TEST_F(Shards, WhatDoesNotBelongTogetherIsRefused) {
  collect_all(options(), ShardProgress::finished);
  const auto expect = [](const std::string& message, const std::string& reason) {
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  };
  expect(merge_refusal({file(1), file(2)}), "required all 3 shards, got none with 3/3");
  expect(merge_refusal({file(1), file(2), file(2)}), "required every shard once, got 2/3 again");
  const auto collect_other = [&](const char* name, CalibrateOptions other,
                                 CalibrationShard shard = {.index = 2, .count = 3}) {
    other.shard = shard;
    other.statistics = folder_ / name;
    collect_shard(pipeline_, other);
  };
  const auto merge_with = [&](const char* name) {
    return merge_refusal({file(1), folder_ / name, file(3)});
  };
  CalibrateOptions other = options();
  other.run.seed = 8;
  collect_other("seed", other);
  expect(merge_with("seed"), "with seed = 7, got 8");
  other = options();
  other.rows = 32;
  collect_other("rows", other);
  expect(merge_with("rows"), "with rows = 64, got 32");
  collect_other("count", options(), {.index = 2, .count = 4});
  expect(merge_with("count"), "required a shard of 3");
  {
    const torch::NoGradGuard no_grad;
    torch::Tensor weight = named_linears(*pipeline_.transformer).front().linear->weight;
    const torch::Tensor own = weight.clone();
    weight.add_(1);
    collect_other("model", options());
    weight.copy_(own);
  }
  expect(merge_with("model"), "with base_revision = ");
  CalibrateOptions whole = options();
  whole.statistics = folder_ / "whole";
  calibrate(pipeline_, whole);
  expect(merge_refusal({file(1), folder_ / "whole", file(3)}),
         "required the statistics of a shard");
  EXPECT_FALSE(std::filesystem::exists(options().statistics));
  whole.statistics = file(1);  // a shard is not taken for all
  expect(refusal([&] { calibrate(pipeline_, whole); }), "without a shard, got 1/3");
  expect(refusal([&] { merge_shards(pipeline_, whole, files()); }), "that is not a shard's");
}

TEST_F(Shards, SecondRoundsNeedOneFirst) {
  const CalibrateOptions blocks = options("16");
  const CalibrationShard second{.index = 2, .count = 3};
  EXPECT_NE(refusal([&] { collect(blocks, second, folder_ / "none"); }).find("no such file"),
            std::string::npos);
  CalibrateOptions alone = blocks;
  alone.statistics = folder_ / "started";
  calibrate(pipeline_, alone, [](const CalibrateProgress&) { return false; });
  EXPECT_NE(refusal([&] {
              collect(blocks, second, folder_ / "started");
            }).find("inputs of all 5 prompts, got of 4"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              collect(options(), second, folder_ / "started");
            }).find("a transform that is made of them"),
            std::string::npos);
}

TEST(ShardNames, AreReadBack) {
  EXPECT_EQ(to_string(shard_from_string("2/4")), "2/4");
  for (const char* text :
       {"", "2", "2/", "/4", "0/4", "5/4", "2/4x", " 2/4", "-1/4", "2/99999999999"}) {
    EXPECT_THROW(shard_from_string(text), UsageError) << text;
  }
}

TEST(ShardRanges, ShareOutWholeBatches) {
  for (const int prompts : {1, 7, 64, 100}) {
    for (const int batch : {1, 3, 8}) {
      const CalibrationRun run{.prompts = prompts, .batch = batch};
      const int batches = (prompts + batch - 1) / batch;
      for (int count = 1; count <= batches; ++count) {
        std::int64_t end = 0;
        for (int index = 1; index <= count; ++index) {
          const PromptRange range =
              prompts_of(run, CalibrationShard{.index = index, .count = count});
          EXPECT_EQ(range.first, end);
          EXPECT_EQ(range.first % batch, 0);
          EXPECT_GT(range.size(), 0);
          end = range.last;
        }
        EXPECT_EQ(end, prompts);
      }
      EXPECT_THROW(prompts_of(run, CalibrationShard{.index = 1, .count = batches + 1}), UsageError);
    }
  }
}

}  // namespace
}  // namespace rtlynx
