// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "io/png.h"
#include "mini/small_pipeline.h"
#include "refusal.h"
#include "study/train_low_rank.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

EvaluateOptions quick(std::vector<std::string> methods) {
  return {.prompts = 3,
          .velocity_prompts = 2,
          .steps = 2,
          .guidance = 3.0,
          .batch = 2,
          .methods = std::move(methods),
          .calibration = {.prompts = 1, .steps = 1}};
}

TEST(Evaluate, ReportsEveryMethodBesideDense) {
  Pipeline pipeline = test::small_pipeline();
  const test::TempDir folder;
  EvaluateOptions options = quick({"naive", "magnitude", "dense", "naive"});
  options.pictures = folder.path();
  options.kept_pictures = 1;
  const auto report = evaluate_methods(pipeline, options).value();
  ASSERT_EQ(report["methods"].size(), 3U);
  EXPECT_EQ(folder.list(),
            (std::vector<std::string>{"dense-0000.png", "magnitude-0000.png", "naive-0000.png"}));
  EXPECT_EQ(read_png(folder / "naive-0000.png").width, 64);

  const auto& dense = report["methods"][0];
  EXPECT_EQ(dense["name"], "dense");
  EXPECT_EQ(dense["velocity_error"], 0.0);
  EXPECT_EQ(dense["relative_cost"], 1.0);
  EXPECT_TRUE(dense["psnr"].is_null());  // equal pictures
  EXPECT_EQ(dense["ssim"], 1.0);
  EXPECT_EQ(dense["high_frequency_error"], 0.0);

  for (const auto& method : {report["methods"][1], report["methods"][2]}) {
    EXPECT_EQ(method["relative_cost"], 0.5);
    EXPECT_EQ(method["velocity_error_by_step"].size(), 2U);
    EXPECT_EQ(method["captions"]["shape_color_position"], method["caption_accuracy"]);
    for (const char* score :
         {"velocity_error", "psnr", "ssim", "high_frequency_error", "caption_accuracy"}) {
      const auto& interval = method[std::string(score) + "_interval"];
      EXPECT_LE(interval[0], method[score]) << score;
      EXPECT_GE(interval[1], method[score]) << score;
    }
    EXPECT_GT(method["frechet_distance"], 0.0);
  }
  EXPECT_EQ(report["inputs"].size(), 7U);
  EXPECT_EQ(report["calibration"]["prompts"], 1);
}

// The checker would take a leaf for an item.
TEST(Evaluate, DeadLeavesAreNotReadBack) {
  Pipeline pipeline = test::small_pipeline();
  const auto plain = evaluate_methods(pipeline, quick({"naive"})).value();
  pipeline.leaves = true;
  const auto leaves = evaluate_methods(pipeline, quick({"naive"})).value();
  EXPECT_EQ(leaves["scene_background"], "dead leaves");
  EXPECT_FALSE(leaves["methods"][1].contains("caption_accuracy"));
  EXPECT_EQ(leaves["methods"][1]["psnr"], plain["methods"][1]["psnr"]);
  // Held against other scenes.
  EXPECT_NE(leaves["methods"][1]["frechet_distance"], plain["methods"][1]["frechet_distance"]);
}

TEST(Evaluate, SameOptionsSameReport) {
  Pipeline pipeline = test::small_pipeline();
  const auto first = evaluate_methods(pipeline, quick({"wanda"})).value();
  EXPECT_EQ(first, evaluate_methods(pipeline, quick({"wanda"})).value());
}

TEST(Evaluate, WithoutLearnersNothingIsCalibrated) {
  Pipeline pipeline = test::small_pipeline();
  EvaluateOptions options = quick({"norm"});
  options.velocity_prompts = 0;
  std::vector<std::string> stages;
  const auto report =
      evaluate_methods(pipeline, options,
                       [&](const std::string& stage, std::int64_t finished, std::int64_t all) {
                         EXPECT_LE(finished, all);
                         if (stages.empty() || stages.back() != stage) stages.push_back(stage);
                         return true;
                       })
          .value();
  EXPECT_FALSE(report.contains("inputs"));
  EXPECT_FALSE(report["methods"][1].contains("velocity_error"));
  EXPECT_EQ(stages, (std::vector<std::string>{"dense: prepare", "dense: pictures", "norm: prepare",
                                              "norm: pictures"}));
}

TEST(Evaluate, RefusesUnknownMethodsFirst) {
  Pipeline pipeline = test::small_pipeline();
  const auto never = [](const std::string&, std::int64_t, std::int64_t) {
    ADD_FAILURE() << "worked";
    return false;
  };
  EXPECT_THROW(evaluate_methods(pipeline, quick({"norm", "sorcery"}), never), UsageError);
  EvaluateOptions none = quick({});
  none.prompts = 0;
  EXPECT_THROW(evaluate_methods(pipeline, none, never), UsageError);
}

TEST(Evaluate, MeasuresHowFarAMethodIsFromItself) {
  Pipeline pipeline = test::small_pipeline();
  EvaluateOptions options = quick({"norm"});
  options.prompts = 4;
  options.noise_floor = true;
  const auto report = evaluate_methods(pipeline, options).value();
  EXPECT_EQ(report["noise_floor_batch"], 2);
  for (const auto& method : report["methods"]) {
    const double equal = method["noise_floor_equal"];
    EXPECT_EQ(method["noise_floor"].is_null(), equal == 1) << method["name"];
    // Rounding alone changes a picture less than leaving out half of the channels does.
    if (method["name"] == "norm" && equal < 1) {
      EXPECT_GT(method["noise_floor"], method["psnr"]);
    }
  }
}

TEST(Evaluate, PlansWhatItDraws) {
  Pipeline pipeline = test::small_pipeline();
  EvaluationPlan plan;
  const auto never = [](const std::string&, std::int64_t, std::int64_t) { return false; };
  const auto keep_plan = [&](const EvaluationPlan& made) { plan = made; };
  evaluate_methods(pipeline, quick({"norm", "joint", "block64+joint"}), never, keep_plan);
  EXPECT_EQ(plan.methods, 4);
  // Of each method pictures, of all but dense velocities, of both prompts at one of two steps; a
  // pass over the inputs for blocks, and one for all that learn.
  EXPECT_EQ(plan.picture_steps, 4 * 3 * 2 + 3 * 2 + 1 + 1);
  EXPECT_EQ(plan.noise_floor_steps, 0);
  EvaluateOptions twice = quick({"norm"});
  twice.noise_floor = true;
  twice.velocity_stride = 1;
  evaluate_methods(pipeline, twice, never, keep_plan);
  EXPECT_EQ(plan.picture_steps, 2 * 3 * 2 + 2 * 2);
  EXPECT_EQ(plan.noise_floor_steps, 2 * 3 * 2);  // in batches of another size
}

TEST(Evaluate, RefusesWhatTheLayersDoNotAllowFirst) {
  Pipeline pipeline = test::small_pipeline();
  FluxConfig config = pipeline.transformer->config();
  config.attention_head_dim = 8;
  config.axes_dims_rope = {4, 2, 2};
  FluxTransformer narrow(config);  // layers of 8 channels
  {
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& weight : narrow->parameters()) weight.normal_(0, 0.1);
  }
  pipeline.transformer = narrow;
  const auto never = [](const std::string&, std::int64_t, std::int64_t) {
    ADD_FAILURE() << "worked";
    return false;
  };
  for (const char* method : {"joint", "block64", "fixed-half", "wanda+lora"}) {
    EXPECT_THROW(evaluate_methods(pipeline, quick({"norm", method}), never), UsageError) << method;
  }
  pipeline = test::small_pipeline();
  pipeline.trained_size = 32;
  EXPECT_THROW(evaluate_methods(pipeline, quick({"norm"}), never), Error);
}

// A method's result depends on the list of methods no more than on what they share.
TEST(Evaluate, MethodsThatLearnTogetherGetWhatEachGetsAlone) {
  Pipeline pipeline = test::small_pipeline();
  const auto together =
      evaluate_methods(pipeline, quick({"norm+lora", "block64+joint", "wanda"})).value();
  for (std::size_t i = 1; i < together["methods"].size(); ++i) {
    const auto& method = together["methods"][i];
    const auto alone = evaluate_methods(pipeline, quick({method["name"]})).value();
    EXPECT_EQ(alone["methods"][1], method) << method["name"];
    EXPECT_EQ(alone["inputs"], together["inputs"]) << method["name"];
  }
}

TEST(Evaluate, VelocitiesOfSomeStepsAreAmongThoseOfAll) {
  Pipeline pipeline = test::small_pipeline();
  EvaluateOptions options = quick({"naive"});
  options.prompts = options.velocity_prompts = 4;
  options.steps = 4;
  options.velocity_stride = 1;
  const auto all = evaluate_methods(pipeline, options).value();
  options.velocity_stride = 2;
  const auto some = evaluate_methods(pipeline, options).value();
  EXPECT_EQ(all["velocity_stride"], 1);
  EXPECT_EQ(some["velocity_stride"], 2);
  const auto& whole = all["methods"][1];
  const auto& part = some["methods"][1];
  EXPECT_NE(part["velocity_error"], whole["velocity_error"]);
  EXPECT_NEAR(part["velocity_error"], whole["velocity_error"],
              0.2 * whole["velocity_error"].get<double>());
  EXPECT_EQ(part["velocity_error_by_step"].size(), 4U);
  EXPECT_EQ(part["psnr"], whole["psnr"]);
}

class EvaluateResumed : public testing::Test {
 protected:
  /// Stops when the stage begins.
  static EvaluateCallback stop_at(const std::string& stage) {
    return [stage](const std::string& now, std::int64_t, std::int64_t) { return now != stage; };
  }
  std::vector<std::string> stages(const EvaluateOptions& options) {
    std::vector<std::string> names;
    evaluate_methods(pipeline_, options, [&](const std::string& stage, std::int64_t, std::int64_t) {
      if (names.empty() || names.back() != stage) names.push_back(stage);
      return true;
    });
    return names;
  }

  test::TempDir folder_;
  Pipeline pipeline_ = test::small_pipeline();
};

TEST_F(EvaluateResumed, GivesTheReportOfOneRun) {
  EvaluateOptions options = quick({"norm", "block64+joint"});
  // A stop takes effect between two batches.
  options.calibration = {.prompts = 2, .steps = 1, .batch = 1};
  const std::string whole = evaluate_methods(pipeline_, options).value().dump();
  for (const char* stage : {"calibrate, pass 2/2", "dense: pictures", "block64+joint: pictures"}) {
    EvaluateOptions kept = options;
    kept.results = folder_ / std::string(stage).substr(0, 5);
    EXPECT_FALSE(evaluate_methods(pipeline_, kept, stop_at(stage))) << stage;
    EXPECT_EQ(evaluate_methods(pipeline_, kept).value().dump(), whole) << stage;
  }
}

TEST_F(EvaluateResumed, MayStopAtEveryMethod) {
  EvaluateOptions kept = quick({"norm", "naive"});
  const std::string whole = evaluate_methods(pipeline_, kept).value().dump();
  kept.results = folder_ / "results";
  for (const char* method : {"dense", "norm", "naive"}) {
    EXPECT_FALSE(evaluate_methods(pipeline_, kept, stop_at(std::string(method) + ": pictures")));
  }
  EXPECT_EQ(evaluate_methods(pipeline_, kept).value().dump(), whole);
}

TEST_F(EvaluateResumed, DrawsNothingAgain) {
  EvaluateOptions kept = quick({"norm", "joint", "block64+joint", "wanda"});
  const std::string whole = evaluate_methods(pipeline_, kept).value().dump();
  kept.results = folder_ / "results";
  EXPECT_FALSE(evaluate_methods(pipeline_, kept, stop_at("block64+joint: pictures")));
  EXPECT_TRUE(std::filesystem::is_directory(folder_ / "results.work"));
  EXPECT_EQ(stages(kept),
            (std::vector<std::string>{"block64+joint: prepare", "block64+joint: velocity",
                                      "block64+joint: pictures", "wanda: prepare",
                                      "wanda: velocity", "wanda: pictures"}));
  EXPECT_EQ(folder_.list(), std::vector<std::string>{"results"});
  EXPECT_EQ(evaluate_methods(pipeline_, kept).value().dump(), whole);
}

TEST_F(EvaluateResumed, MayStopWhileAMethodCalibrates) {
  EvaluateOptions kept = quick({"block64+joint"});
  kept.calibration.prompts = 2;
  kept.calibration.batch = 1;
  const std::string whole = evaluate_methods(pipeline_, kept).value().dump();
  kept.results = folder_ / "results";
  EXPECT_FALSE(evaluate_methods(pipeline_, kept, stop_at("calibrate, pass 2/2")));
  const std::vector<std::string> left = stages(kept);
  EXPECT_EQ(left.front(), "calibrate, pass 2/2");
  EXPECT_EQ(evaluate_methods(pipeline_, kept).value().dump(), whole);
}

TEST_F(EvaluateResumed, AnotherProcessMayFinishTheRest) {
  EvaluateOptions kept = quick({"norm", "naive"});
  const std::string whole = evaluate_methods(pipeline_, kept).value().dump();
  kept.results = folder_ / "results";
  Pipeline other = test::small_pipeline();
  bool begun = false;
  std::vector<std::string> own;
  const auto report =
      evaluate_methods(pipeline_, kept, [&](const std::string& stage, std::int64_t, std::int64_t) {
        if (own.empty() || own.back() != stage) own.push_back(stage);
        if (stage == "norm: prepare" && !std::exchange(begun, true)) {
          EvaluateOptions theirs = kept;
          theirs.methods = {"naive"};
          evaluate_methods(other, theirs);
        }
        return true;
      });
  EXPECT_EQ(report.value().dump(), whole);
  EXPECT_EQ(own.back(), "norm: pictures");
}

TEST_F(EvaluateResumed, DenseOfAnotherProcessIsNoOtherMethods) {
  EvaluateOptions kept = quick({"wanda"});
  const std::string whole = evaluate_methods(pipeline_, kept).value().dump();
  kept.results = folder_ / "results";
  Pipeline other = test::small_pipeline();
  bool begun = false;
  const auto report =
      evaluate_methods(pipeline_, kept, [&](const std::string& stage, std::int64_t, std::int64_t) {
        if (stage == "calibrate, pass 1/1" && !std::exchange(begun, true)) {
          EvaluateOptions theirs = kept;
          theirs.methods = {};
          evaluate_methods(other, theirs);
        }
        return true;
      });
  EXPECT_EQ(report.value().dump(), whole);
}

TEST_F(EvaluateResumed, BegunAnewMeasuresAll) {
  EvaluateOptions kept = quick({"norm"});
  kept.results = folder_ / "results";
  evaluate_methods(pipeline_, kept);
  kept.restart = true;
  kept.steps = 1;
  EXPECT_EQ(stages(kept).front(), "dense: prepare");
}

TEST_F(EvaluateResumed, LeavesTheModelDense) {
  EXPECT_FALSE(evaluate_methods(pipeline_, quick({"norm"}), stop_at("norm: pictures")));
  for (const auto& item : named_linears(*pipeline_.transformer)) {
    EXPECT_EQ(item.linear->mode(), LinearMode::dense) << item.name;
  }
}

TEST_F(EvaluateResumed, FinishedMethodsServeAnyList) {
  EvaluateOptions kept = quick({"norm"});
  kept.results = folder_ / "results";
  evaluate_methods(pipeline_, kept);
  EXPECT_TRUE(stages(kept).empty());
  kept.methods = {"naive"};
  EXPECT_EQ(stages(kept), (std::vector<std::string>{"dense: pictures", "naive: prepare",
                                                    "naive: velocity", "naive: pictures"}));
}

TEST_F(EvaluateResumed, AnotherFileOfTheSameNameIsMeasured) {
  EvaluateOptions kept = quick({});
  kept.results = folder_ / "results";
  kept.compensations = {folder_ / "file.safetensors"};
  const auto write = [&](std::uint64_t seed) {
    write_compensation(kept.compensations.front(),
                       start_low_rank(pipeline_, "paper", /*rank=*/16, seed));
  };
  write(1);
  evaluate_methods(pipeline_, kept);
  EXPECT_TRUE(stages(kept).empty());
  write(2);
  EXPECT_EQ(stages(kept).back(), "file: pictures");
}

TEST_F(EvaluateResumed, AnotherEvaluationIsRefused) {
  EvaluateOptions kept = quick({});
  kept.results = folder_ / "results";
  evaluate_methods(pipeline_, kept);
  const auto message = [&](const EvaluateOptions& options) {
    return refusal([&] { evaluate_methods(pipeline_, options); });
  };
  EvaluateOptions other = kept;
  other.steps = 3;
  EXPECT_NE(message(other).find("with steps = 3, got 2"), std::string::npos) << message(other);
  other = kept;
  other.pictures = folder_.path();
  EXPECT_NE(message(other).find("pictures"), std::string::npos) << message(other);
  const torch::NoGradGuard no_grad;
  pipeline_.text_encoder->parameters().front().mul_(2);
  EXPECT_NE(message(kept).find("text_encoder_revision"), std::string::npos) << message(kept);
}

}  // namespace
}  // namespace rtlynx
