// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "study/velocity_error.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

class Calibrate : public testing::Test {
 protected:
  static CalibrateOptions options(const char* transform = "none") {
    return {.run = {.prompts = 5, .steps = 3, .guidance = 3.0, .batch = 2},
            .rows = 64,
            .transform = transform_choice_from_string(transform),
            .solve = {.method = CompensationMethod::joint, .rank = 16}};
  }

  void expect_same(const CalibrateResult& a, const CalibrateResult& b) {
    ASSERT_EQ(a.layers.size(), b.layers.size());
    for (std::size_t i = 0; i < a.layers.size(); ++i) {
      const Compensation24& one = a.layers[i].solution.values;
      const Compensation24& other = b.layers[i].solution.values;
      EXPECT_EQ(a.layers[i].name, b.layers[i].name);
      EXPECT_TRUE(one.weight.equal(other.weight)) << a.layers[i].name;
      EXPECT_TRUE(one.down.equal(other.down)) << a.layers[i].name;
    }
  }

  test::TempDir folder_;
  Pipeline pipeline_ = test::small_pipeline();
};

TEST_F(Calibrate, SolvesEveryLayerOfTheRecipe) {
  const CalibrateResult result = calibrate(pipeline_, options());
  ASSERT_TRUE(result.finished);
  const LayerFilter in_paper = paper_layers(pipeline_.transformer->groups());
  std::size_t expected = 0;
  for (const auto& [name, linear] : named_linears(*pipeline_.transformer)) {
    expected += in_paper(name) ? 1 : 0;
    EXPECT_EQ(result.compensation.layers.contains(name), in_paper(name)) << name;
  }
  EXPECT_EQ(result.layers.size(), expected);
  for (const CalibratedLayer& layer : result.layers) {
    EXPECT_GT(layer.tokens, 0);
    EXPECT_LT(layer.solution.error, layer.solution.error_before) << layer.name;
  }
  EXPECT_EQ(to_json(result)["layers"].size(), expected);
  apply_compensation(*pipeline_.transformer, result.compensation, "test");
}

// 3 batches of 2 prompts, 2 guidance branches: the first batches have 4 x 256 image tokens.
TEST_F(Calibrate, TakesAtMostSoManyRowsOfEveryInput) {
  CalibrateOptions few = options();
  few.rows = 10;
  for (const CalibratedLayer& layer : calibrate(pipeline_, few).layers) {
    EXPECT_EQ(layer.tokens, 10 * 3 * 3) << layer.name;  // batches x steps
  }
}

TEST_F(Calibrate, BringsTheVelocityCloserToDense) {
  GenerateRequest request = calibration_request({.prompts = 2, .seed = 99, .steps = 3});
  request.width = request.height = pipeline_.trained_size;
  const DenseTrajectory dense = record_trajectory(pipeline_, request, 2);
  const auto error = [&] { return measure_velocity_error(pipeline_, dense).relative(); };
  apply_recipe(*pipeline_.transformer, paper_layers(pipeline_.transformer->groups()),
               LinearMode::naive);
  const double naive = error();
  const CalibrateResult joint = calibrate(pipeline_, options());
  apply_compensation(*pipeline_.transformer, joint.compensation, "joint");
  const double compensated = error();
  const CalibrateResult blocks = calibrate(pipeline_, options("64"));
  apply_compensation(*pipeline_.transformer, blocks.compensation, "blocks");
  EXPECT_LT(compensated, naive);
  EXPECT_LT(error(), compensated);
}

TEST_F(Calibrate, SeveralAreDrawnForOnceAndGetWhatEachGetsAlone) {
  CalibrateOptions with_norm = options();
  with_norm.solve = {.method = CompensationMethod::low_rank, .norm = true, .rank = 16};
  const std::vector<CalibrateOptions> all = {options(), with_norm, options("16")};
  int calls = 0;
  const auto together = collect_sums(pipeline_, all, [&](const CalibrateProgress&) {
                          ++calls;
                          return true;
                        }).value();
  // Of 3 batches of 3 steps, and of the first of them for the transforms.
  EXPECT_EQ(calls, (3 + 1) * (1 + 3));
  ASSERT_EQ(together.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const CalibrationSums alone = collect_sums(pipeline_, all[i]).value();
    ASSERT_EQ(together[i].moments.size(), alone.moments.size());
    for (const auto& [group, sums] : alone.moments) {
      const InputMoments& shared = together[i].moments.at(group);
      EXPECT_EQ(shared.tokens, sums.tokens);
      EXPECT_TRUE(shared.xx.equal(sums.xx) && shared.xs.equal(sums.xs) && shared.ss.equal(sums.ss))
          << i << " " << group;
    }
  }
  // The inputs as they are do not depend on the norm, their selection does.
  const auto& [group, plain] = *together[0].moments.begin();
  EXPECT_TRUE(plain.xx.equal(together[1].moments.at(group).xx));
  EXPECT_FALSE(plain.xs.equal(together[1].moments.at(group).xs));
}

TEST_F(Calibrate, SeveralAreOfOneRun) {
  std::vector<CalibrateOptions> all = {options(), options("16")};
  all[1].run.seed += 1;
  EXPECT_THROW(collect_sums(pipeline_, all), Error);
}

TEST_F(Calibrate, SeveralGoOnFromWhatEachHas) {
  std::vector<CalibrateOptions> all = {options(), options("16")};
  const auto whole = collect_sums(pipeline_, all).value();
  all[0].statistics = folder_ / "none";
  all[1].statistics = folder_ / "blocks";
  collect_sums(pipeline_, all[0]);  // is finished when the other begins
  const auto stop = [](const CalibrateProgress&) { return false; };
  EXPECT_FALSE(collect_sums(pipeline_, all, stop));
  const auto sums = collect_sums(pipeline_, all).value();
  for (std::size_t i = 0; i < 2; ++i) {
    for (const auto& [group, moments] : whole[i].moments) {
      EXPECT_TRUE(sums[i].moments.at(group).xs.equal(moments.xs)) << i << " " << group;
    }
  }
}

TEST_F(Calibrate, StoppedAndGoneOnWithIsTheSame) {
  for (const char* transform : {"none", "16"}) {
    CalibrateOptions kept = options(transform);
    kept.run.batch = 1;
    const CalibrateResult whole = calibrate(pipeline_, kept);
    kept.statistics = folder_ / (std::string("sums-") + transform);
    int stops = 0;
    CalibrateResult result;
    // Each attempt ends after one batch.
    for (; !result.finished && stops < 20; ++stops) {
      result = calibrate(pipeline_, kept, [](const CalibrateProgress&) { return false; });
    }
    // The pass over the inputs draws the first of five batches and the last; where it ends the
    // other begins.
    EXPECT_EQ(stops, transform == std::string("none") ? 5 : 6);
    expect_same(result, whole);
  }
}

TEST_F(Calibrate, FinishedStatisticsAreSolvedAnewWithoutDrawing) {
  CalibrateOptions kept = options();
  kept.statistics = folder_ / "sums";
  calibrate(pipeline_, kept);
  kept.solve.method = CompensationMethod::refit;
  int steps = 0;
  const CalibrateResult result = calibrate(pipeline_, kept, [&](const CalibrateProgress&) {
    ++steps;
    return true;
  });
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(steps, 0);
  EXPECT_EQ(result.compensation.rank, 0);
}

TEST_F(Calibrate, StatisticsOfAnotherRunAreRefused) {
  CalibrateOptions kept = options();
  kept.statistics = folder_ / "sums";
  calibrate(pipeline_, kept);
  kept.run.prompts = 6;
  try {
    calibrate(pipeline_, kept);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("prompts = 6, got 5"), std::string::npos)
        << error.what();
  }
}

TEST_F(Calibrate, ReportsBothPasses) {
  std::vector<int> passes;
  calibrate(pipeline_, options("16"), [&](const CalibrateProgress& progress) {
    EXPECT_EQ(progress.passes, 2);
    EXPECT_EQ(progress.steps, progress.pass == 1 ? 3 : 3 * 3);  // every fourth batch; all three
    EXPECT_LE(progress.finished, progress.steps);
    if (passes.empty() || passes.back() != progress.pass) passes.push_back(progress.pass);
    return true;
  });
  EXPECT_EQ(passes, (std::vector<int>{1, 2}));
}

TEST_F(Calibrate, StatesItsMemory) {
  // heads = 1: 64 channels, and 256 behind the MLPs. Two streams of three inputs, one single block.
  const std::int64_t squares = 5 * 64 * 64 + 2 * 256 * 256;
  EXPECT_EQ(statistics_bytes(pipeline_, options()), 24 * squares);
  EXPECT_EQ(statistics_bytes(pipeline_, options("64")), 32 * squares);
}

TEST_F(Calibrate, PartsThatFitTheMemoryGiveTheSame) {
  const CalibrateResult whole = calibrate(pipeline_, options("16"));
  CalibrateOptions tight = options("16");
  tight.memory = 32 * 256 * 256;  // one MLP's input, or some of the others
  tight.statistics = folder_ / "sums.safetensors";
  const std::size_t parts = statistics_files(pipeline_, tight).size();
  EXPECT_GT(parts, 2U);
  int passes = 0;
  const CalibrateResult split = calibrate(pipeline_, tight, [&](const CalibrateProgress& progress) {
    passes = progress.passes;
    EXPECT_LE(progress.pass, progress.passes);
    return true;
  });
  EXPECT_EQ(passes, static_cast<int>(2 * parts));
  expect_same(split, whole);
  EXPECT_EQ(split.compensation.layers.size(), whole.compensation.layers.size());
  for (const auto& file : statistics_files(pipeline_, tight)) {
    EXPECT_TRUE(std::filesystem::exists(file)) << file;
  }
}

TEST_F(Calibrate, RefusesWhatCannotBe) {
  CalibrateOptions wrong = options();
  wrong.recipe = "paper-z-image";
  EXPECT_THROW(calibrate(pipeline_, wrong), UsageError);
  wrong = options();
  wrong.solve.rank = 65;
  EXPECT_THROW(calibrate(pipeline_, wrong), UsageError);
}

}  // namespace
}  // namespace rtlynx
