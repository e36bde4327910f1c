// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_run.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "mini/caption_accuracy.h"
#include "mini/small_pipeline.h"

namespace rtlynx {
namespace {

TEST(CalibrationRequest, IsFixedAndApartFromEvaluations) {
  const GenerateRequest request = calibration_request({.prompts = 40});
  EXPECT_EQ(request.prompts, calibration_request({.prompts = 40}).prompts);
  EXPECT_NE(request.prompts, calibration_request({.prompts = 40, .seed = 8}).prompts);
  const CaptionSuite suite = make_caption_suite(40, 7);
  const std::set<std::string> held_out(suite.captions.begin(), suite.captions.end());
  for (const std::string& prompt : request.prompts) EXPECT_FALSE(held_out.contains(prompt));
  for (const std::uint64_t seed : request.seeds) EXPECT_GE(seed, 1'000'000'000U);
  EXPECT_THROW(calibration_request({.prompts = 0}), UsageError);
}

TEST(ObserveInputs, ShowsEveryTokenOfTheWantedLayers) {
  Pipeline pipeline = test::small_pipeline();
  std::map<std::string, std::int64_t> tokens;
  int last = 0;
  observe_inputs(
      pipeline, {.prompts = 3, .steps = 2, .batch = 2},
      [](const std::string& layer) {
        return layer.ends_with("to_q") || layer.ends_with("proj_mlp");
      },
      [&](const std::string& layer, const torch::Tensor& x) {
        tokens[layer] += x.numel() / x.size(-1);
      },
      [&](int finished, int steps) {
        EXPECT_EQ(steps, 4);
        last = finished;
      });
  EXPECT_EQ(last, 4);
  // 3 prompts, 2 steps, 2 guidance branches; 256 image and 24 text tokens.
  EXPECT_EQ(tokens, (std::map<std::string, std::int64_t>{
                        {"transformer_blocks.0.attn.to_q", 12 * 256},
                        {"single_transformer_blocks.0.attn.to_q", 12 * 280},
                        {"single_transformer_blocks.0.proj_mlp", 12 * 280}}));
}

TEST(ObserveInputs, LeavesNoObserverBehind) {
  Pipeline pipeline = test::small_pipeline();
  int seen = 0;
  const auto all = [](const std::string&) { return true; };
  const CalibrationRun run{.prompts = 1, .steps = 1};
  EXPECT_THROW(observe_inputs(pipeline, run, all,
                              [&](const std::string&, const torch::Tensor&) -> void {
                                ++seen;
                                throw Error("enough");
                              }),
               Error);
  EXPECT_EQ(seen, 1);
  pipeline.generate(calibration_request(run));
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace rtlynx
