// SPDX-License-Identifier: Apache-2.0
// What the pipeline does with any model: requests, batches, guidance, previews, caching.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "base/error.h"
#include "fake_model.h"
#include "pipeline/text_to_image.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using test::FakeModel;
using test::level;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using TextToImage = test::TextToImage;

TEST_F(TextToImage, EachPictureIsOfItsPromptInEveryBatch) {
  for (const int batch : {1, 2, 5}) {
    EXPECT_THAT(draw({.prompts = {"0.5", "-0.5", "0.25"}, .seeds = {1, 2, 3}, .batch = batch}),
                ElementsAre(level(0.5), level(-0.5), level(0.25)));
  }
}

TEST_F(TextToImage, TrueCfgGoesAwayFromTheNegativePrompt) {
  EXPECT_THAT(draw({.prompts = {"0.25"}, .seeds = {1}, .negative = "0", .true_cfg = 2}),
              ElementsAre(level(0.5)));
}

TEST_F(TextToImage, AModelsOwnNegativePromptIsTakenUnlessGuidanceIsOff) {
  TextToImagePipeline pipeline(std::make_unique<FakeModel>(log_, "0"), SchedulerConfig{},
                               torch::kFloat32);
  const PictureRequest request{.prompts = {"0.25"}, .seeds = {1}};
  EXPECT_EQ(pipeline.settings_for(request).true_cfg, 2);
  EXPECT_EQ(pipeline.settings_for(request).negative, "0");
  PictureRequest other = request;
  other.negative = "0.5";
  EXPECT_EQ(pipeline.settings_for(other).negative, "0.5");
  other = request;
  other.true_cfg = 1;
  EXPECT_FALSE(pipeline.settings_for(other).guided());
  pipeline.prepare(other);
  EXPECT_THAT(log_, Not(Contains("encode 0"))) << "no step reads it";
  pipeline.prepare(request);
  EXPECT_THAT(log_, Contains("encode 0"));
}

TEST_F(TextToImage, GuidanceEndsAtItsTruncation) {
  // Four levels 1, 0.75, 0.5, 0.25; the last one alone decides about the picture.
  PictureRequest request{
      .prompts = {"0.25"}, .seeds = {1}, .negative = "0", .true_cfg = 2, .steps = 4};
  request.cfg_truncation = 0.75;
  EXPECT_THAT(draw(request), ElementsAre(level(0.5)));
  request.cfg_truncation = 0.5;
  EXPECT_THAT(draw(request), ElementsAre(level(0.25)));
}

TEST_F(TextToImage, GuidanceIsNoLongerThanItsNormalization) {
  PictureRequest request{
      .prompts = {"0.25"}, .seeds = {1}, .negative = "-0.5", .true_cfg = 3, .steps = 1};
  pipeline_.prepare(request);
  const PictureSettings settings = pipeline_.settings_for(request);
  const torch::Tensor noise = pipeline_.draw_noise({1}, settings);
  const auto moved = [&](double limit) {
    PictureSettings limited = settings;
    limited.cfg_normalization = limit;
    const auto none = [](int) {};
    return (noise - pipeline_.denoise(request.prompts, limited, noise, none)).norm().item<double>();
  };
  const double own = (noise - 0.25).norm().item<double>();
  const double guided = moved(0);
  ASSERT_NE(guided, own);
  EXPECT_NEAR(moved(0.5), 0.5 * own, 1e-5 * own);
  EXPECT_NEAR(moved(2 * guided / own), guided, 1e-5 * own) << "nothing is lengthened";
}

TEST_F(TextToImage, NoiseDependsOnItsSeedAlone) {
  const PictureSettings settings = pipeline_.settings_for({.prompts = {"0"}, .seeds = {1}});
  const torch::Tensor both = pipeline_.draw_noise({5, 6}, settings);
  EXPECT_TRUE(torch::equal(both.narrow(0, 1, 1), pipeline_.draw_noise({6}, settings)));
  EXPECT_FALSE(torch::equal(both[0], both[1]));
}

TEST_F(TextToImage, StepsOfAllBatchesAreCounted) {
  Log steps;
  pipeline_.draw({.prompts = {"0", "0"}, .seeds = {1, 2}, .steps = 2},
                 {.on_step =
                      [&](int finished, int all) {
                        steps.push_back(std::to_string(finished) + "/" + std::to_string(all));
                      },
                  .on_images = [](std::size_t, std::vector<Image>) {}});
  EXPECT_THAT(steps, ElementsAre("0/4", "1/4", "2/4", "2/4", "3/4", "4/4"));
}

TEST_F(TextToImage, PreviewsForeseeThePictures) {
  std::vector<std::string> seen;
  pipeline_.draw(
      {.prompts = {"0.5", "-0.5", "0.25"}, .seeds = {1, 2, 3}, .steps = 4, .width = 64, .batch = 2},
      {.on_images =
           [&](std::size_t first, const std::vector<Image>&) {
             seen.push_back("pictures " + std::to_string(first));
           },
       .preview_every = 2,
       .on_preview =
           [&](std::size_t first, const std::vector<Image>& images) {
             seen.push_back("preview " + std::to_string(first));
             EXPECT_EQ(images.size(), first == 0 ? 2 : 1);
             EXPECT_EQ(images.front().rgb.front(), level(first == 0 ? 0.5 : 0.25));
             EXPECT_EQ(images.front().width, 32);
             EXPECT_EQ(images.front().height, 2);
           }});
  EXPECT_THAT(seen, ElementsAre("preview 0", "pictures 0", "preview 2", "pictures 2"));
}

TEST_F(TextToImage, AnImageIsChangedByItsShareOfTheSteps) {
  Image image(4, 4);
  PictureRequest request{
      .prompts = {"0.5", "-0.5"}, .seeds = {1, 2}, .steps = 5, .batch = 2, .image = image};
  Log steps;
  std::vector<int> values;
  pipeline_.draw(request,
                 {.on_step =
                      [&](int finished, int all) {
                        steps.push_back(std::to_string(finished) + "/" + std::to_string(all));
                      },
                  .on_images =
                      [&](std::size_t, std::vector<Image> images) {
                        for (const Image& drawn : images) values.push_back(drawn.rgb.front());
                      }});
  EXPECT_THAT(steps, ElementsAre("0/3", "1/3", "2/3", "3/3")) << "0.6 of 5";
  EXPECT_THAT(values, ElementsAre(level(0.5), level(-0.5)));
  EXPECT_EQ(pipeline_.settings_for(request).width, 4);
  request.strength = 1;
  EXPECT_EQ(pipeline_.settings_for(request).first_step, 0);
}

TEST_F(TextToImage, ACacheSparesTheEncoders) {
  const test::TempDir folder;
  const PictureRequest request{.prompts = {"0.5", "0.25"}, .seeds = {1, 2}};
  pipeline_.set_prompt_cache(PromptCache(folder.path()));
  draw({.prompts = {"0.5"}, .seeds = {1}});
  log_.clear();
  Log other_log;
  TextToImagePipeline other(std::make_unique<FakeModel>(other_log), SchedulerConfig{},
                            torch::kFloat32);
  other.set_prompt_cache(PromptCache(folder.path()));
  other.prepare(request);
  EXPECT_THAT(other_log, ElementsAre("load encoder", "encode 0.25", "free encoder",
                                     "load transformer", "load autoencoder"));
  EXPECT_THAT(draw(request), ElementsAre(level(0.5), level(0.25)));
  EXPECT_THAT(log_, IsEmpty()) << "what another process encoded, without freeing the transformer";
}

TEST_F(TextToImage, EachPromptIsCachedAsSoonAsItIsEncoded) {
  const test::TempDir folder;
  pipeline_.set_prompt_cache(PromptCache(folder.path()));
  const PictureRequest request{.prompts = {"0.5", "0.25"}, .seeds = {1, 2}};
  PictureCallbacks callbacks;
  callbacks.on_encoded = [](std::size_t finished, std::size_t all) {
    EXPECT_EQ(all, 2);
    if (finished == 1) throw Error("ended here");
  };
  EXPECT_EQ(refusal([&] { pipeline_.prepare(request, callbacks); }), "ended here");
  Log other_log;
  TextToImagePipeline other(std::make_unique<FakeModel>(other_log), SchedulerConfig{},
                            torch::kFloat32);
  other.set_prompt_cache(PromptCache(folder.path()));
  other.prepare(request);
  EXPECT_THAT(other_log, Contains("encode 0.5"));
  EXPECT_THAT(other_log, Not(Contains("encode 0.25"))) << "the first in their order";
}

TEST_F(TextToImage, WorkIsTimedByItsKind) {
  PictureCallbacks callbacks;
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  callbacks.on_load = [&](std::string_view) -> LoadProgress {
    return [&](std::uint64_t, std::uint64_t) { wait(); };
  };
  callbacks.on_encoded = [&](std::size_t, std::size_t) { wait(); };
  callbacks.on_step = [&](int, int) { wait(); };
  callbacks.on_images = [&](std::size_t, const std::vector<Image>&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  };
  pipeline_.draw({.prompts = {"0", "0.5"}, .seeds = {1, 2}, .steps = 2, .batch = 2}, callbacks);
  const WorkTimes& times = pipeline_.times();
  EXPECT_GE(times.loading, 0.030);    // the encoder's
  EXPECT_GE(times.encoding, 0.060);   // two prompts
  EXPECT_GE(times.denoising, 0.090);  // before the first step and behind two
  EXPECT_LT(times.decoding, 0.500) << "what is done with the pictures does not count";
}

TEST_F(TextToImage, WhatCannotBeDrawnIsRefusedBeforeAnythingIsLoaded) {
  const PictureRequest good{.prompts = {"0"}, .seeds = {1}};
  PictureRequest bad = good;
  bad.prompts.clear();
  EXPECT_THAT(refused(bad), HasSubstr("at least one prompt"));
  bad = good;
  bad.seeds = {1, 2};
  EXPECT_THAT(refused(bad), HasSubstr("one seed per prompt, got 2 for 1"));
  bad = good;
  bad.width = 5;
  EXPECT_THAT(refused(bad), HasSubstr("in steps of 2, got 5x4"));
  bad = good;
  bad.height = 0;
  EXPECT_THAT(refused(bad), HasSubstr("got 4x0"));
  bad.height = 514;
  EXPECT_THAT(refused(bad), HasSubstr("from 2 to 512 pixels"));
  bad = good;
  bad.steps = 0;
  EXPECT_THAT(refused(bad), HasSubstr("from 1 to 1000 steps, got 0"));
  bad = good;
  bad.batch = 0;
  EXPECT_THAT(refused(bad), HasSubstr("batch of at least 1"));
  bad = good;
  bad.true_cfg = 4;
  EXPECT_THAT(refused(bad), HasSubstr("together, got true CFG 4 alone"));
  bad = good;
  bad.negative = "0";
  EXPECT_THAT(refused(bad), HasSubstr("got a negative prompt and true CFG 1"));
  bad = good;
  bad.image = Image(4, 6);
  bad.height = 4;
  EXPECT_THAT(refused(bad), HasSubstr("the size to draw, 4x4, got 4x6"));
  bad.height.reset();
  bad.strength = 0;
  EXPECT_THAT(refused(bad), HasSubstr("strength above 0 up to 1, got 0"));
  bad.strength = 1e-20;
  EXPECT_THAT(refused(bad), HasSubstr("leaves a step of 3, got 1e-20"));
  bad.image = Image(5, 4);
  EXPECT_THAT(refused(bad), HasSubstr("got 5x4"));
  bad = good;
  bad.cfg_truncation = 0.5;
  EXPECT_THAT(refused(bad), HasSubstr("true CFG above 1 where it is truncated"));
  bad = good;
  bad.guidance = std::nan("");
  EXPECT_THAT(refused(bad), HasSubstr("guidance of at least 0, got nan"));
}

TEST_F(TextToImage, AStepThatIsNotFiniteIsNamed) {
  PictureRequest request{.prompts = {"inf"}, .seeds = {1}};
  EXPECT_THAT(refusal([&] { draw(request); }), HasSubstr("transformer, step 1 of 3"));
}

}  // namespace
}  // namespace rtlynx
