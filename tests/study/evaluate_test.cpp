// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "pipeline/small_pipeline.h"

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
  std::map<std::string, int> pictures;
  const auto report =
      evaluate_methods(pipeline, quick({"naive", "magnitude", "dense", "naive"}), {},
                       [&](const std::string& method, std::size_t index, const Image& picture) {
                         EXPECT_EQ(index, static_cast<std::size_t>(pictures[method]++));
                         EXPECT_EQ(picture.width, 64);
                       });
  ASSERT_EQ(report["methods"].size(), 3U);
  EXPECT_EQ(pictures, (std::map<std::string, int>{{"dense", 3}, {"magnitude", 3}, {"naive", 3}}));

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

TEST(Evaluate, SameOptionsSameReport) {
  Pipeline pipeline = test::small_pipeline();
  const auto first = evaluate_methods(pipeline, quick({"wanda"}));
  EXPECT_EQ(first, evaluate_methods(pipeline, quick({"wanda"})));
}

TEST(Evaluate, WithoutLearnersNothingIsCalibrated) {
  Pipeline pipeline = test::small_pipeline();
  EvaluateOptions options = quick({"norm"});
  options.velocity_prompts = 0;
  std::vector<std::string> stages;
  const auto report = evaluate_methods(
      pipeline, options, [&](const std::string& stage, std::int64_t finished, std::int64_t all) {
        EXPECT_LE(finished, all);
        if (stages.empty() || stages.back() != stage) stages.push_back(stage);
      });
  EXPECT_FALSE(report.contains("inputs"));
  EXPECT_FALSE(report["methods"][1].contains("velocity_error"));
  EXPECT_EQ(stages, (std::vector<std::string>{"dense: prepare", "dense: pictures", "norm: prepare",
                                              "norm: pictures"}));
}

TEST(Evaluate, RefusesUnknownMethodsFirst) {
  Pipeline pipeline = test::small_pipeline();
  const auto never = [](const std::string&, std::int64_t, std::int64_t) { FAIL() << "worked"; };
  EXPECT_THROW(evaluate_methods(pipeline, quick({"norm", "sorcery"}), never), UsageError);
  EvaluateOptions none = quick({});
  none.prompts = 0;
  EXPECT_THROW(evaluate_methods(pipeline, none, never), UsageError);
}

}  // namespace
}  // namespace rtlynx
