// SPDX-License-Identifier: Apache-2.0
// What the pipeline does with any model: order of the parts, requests, batches, guidance.
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "base/error.h"
#include "pipeline/text_to_image.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using Log = std::vector<std::string>;

/// Writes down when it comes and goes.
class Logged {
 public:
  Logged(Log& log, std::string name) : log_(log), name_(std::move(name)) {
    log_.push_back("load " + name_);
  }
  ~Logged() { log_.push_back("free " + name_); }
  Logged(const Logged&) = delete;
  Logged& operator=(const Logged&) = delete;

 private:
  Log& log_;
  std::string name_;
};

class FakeDenoiser : public Denoiser {
 public:
  explicit FakeDenoiser(Log& log) : life_(log, "transformer") {}

  /// Flows from the noise to pictures of one value, the prompt's.
  torch::Tensor velocity(const DenoiserInput& input) override {
    torch::Tensor velocity = torch::empty_like(input.latents);
    for (std::size_t i = 0; i < input.features.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      velocity[at] = (input.latents[at] - input.features[i].at("value")) / input.sigma;
    }
    return velocity + input.guidance;
  }
  torch::nn::Module& transformer() override { return module_; }

 private:
  Logged life_;
  torch::nn::Module module_;
};

/// Pixels are latents. There is memory for `room` of them at a time.
class FakeVae : public Vae {
 public:
  FakeVae(Log& log, std::int64_t room) : life_(log, "autoencoder"), room_(room) {
    register_parameter("weight", torch::zeros({1}));
  }
  torch::Tensor scaled(const torch::Tensor& latents) const override { return latents; }
  std::int64_t latent_channels() const override { return 3; }
  std::int64_t factor() const override { return 1; }

 protected:
  torch::Tensor unscaled(const torch::Tensor& latents) const override { return latents; }
  torch::Tensor decode_tile(const torch::Tensor& latents) override {
    take_memory(latents);
    return latents;
  }
  torch::Tensor encode_tile(const torch::Tensor& pixels) override {
    take_memory(pixels);
    return torch::cat({pixels, torch::full_like(pixels, -1000)}, /*dim=*/1);  // without deviation
  }
  std::int64_t widest_channels() const override { return 3; }

 private:
  void take_memory(const torch::Tensor& x) const {
    TORCH_CHECK_WITH(OutOfMemoryError, x.size(2) * x.size(3) <= room_, "out of memory");
  }

  Logged life_;
  std::int64_t room_;
};

/// A prompt is a number: the value of its picture.
class FakeModel : public TextToImageModel {
 public:
  /// `negative`: the model's own negative prompt.
  /// `room` of the autoencoder.
  explicit FakeModel(Log& log, std::optional<std::string> negative = {},
                     std::int64_t room = std::numeric_limits<std::int64_t>::max())
      : log_(log), negative_(std::move(negative)), room_(room) {}

  ModelFacts facts() const override {
    return {.latent_channels = 3,
            .latent_factor = 1,
            .patch = 2,
            .size = 4,
            .max_size = 512,
            .steps = 3,
            .distilled_guidance = true,
            .true_cfg = negative_ ? 2.0 : 1.0,
            .negative = negative_};
  }
  std::vector<LayerGroup> groups() const override { return {}; }
  std::vector<ForeignModule> foreign_modules() const override { return {}; }
  std::shared_ptr<torch::nn::Module> outline() const override {
    return std::make_shared<torch::nn::Module>();
  }
  std::vector<std::string> warnings(std::string_view) const override { return {}; }
  std::string encoding() const override { return "of numbers"; }
  void check_encoder_memory(const torch::TensorOptions&) const override {
    fit(holds_transformer() ? "encoder beside the transformer" : "encoder");
  }
  void check_drawing_memory(const torch::TensorOptions&) const override { fit("transformer"); }
  void encode(const std::vector<std::string>& prompts, const torch::TensorOptions&,
              const PartCallback& on_load, const FeaturesCallback& on_features) const override {
    const Logged life(log_, "encoder");
    if (const LoadProgress on_read = on_load("encoder")) on_read(1, 1);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      if (i == 1 && holds_transformer() && states_too_large) {
        throw c10::OutOfMemoryError({}, "no memory");
      }
      log_.push_back("encode " + prompts[i]);
      on_features(i, {{"value", torch::tensor(std::stof(prompts[i]))}});
    }
  }
  std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions&,
                                          const LoadProgress&) const override {
    return std::make_unique<FakeDenoiser>(log_);
  }
  std::shared_ptr<Vae> load_autoencoder(const torch::TensorOptions&,
                                        const LoadProgress&) const override {
    return std::make_shared<FakeVae>(log_, room_);
  }
  std::shared_ptr<Vae> autoencoder_outline(const torch::TensorOptions& options) const override {
    return load_autoencoder(options, {});
  }

  /// There is no memory for it.
  std::string too_large;
  /// Nor for what the second prompt's encoding takes beside the transformer.
  bool states_too_large = false;

 private:
  bool holds_transformer() const {
    return std::count(log_.begin(), log_.end(), "load transformer") >
           std::count(log_.begin(), log_.end(), "free transformer");
  }
  void fit(const std::string& part) const {
    if (part == too_large) throw Error("load " + part + ": no memory");
  }

  Log& log_;
  std::optional<std::string> negative_;
  std::int64_t room_;
};

class TextToImage : public testing::Test {
 protected:
  /// The values of the pictures, one each.
  std::vector<int> draw(const PictureRequest& request) {
    std::vector<int> values;
    pipeline_.draw(request, {.on_images = [&](std::size_t first, std::vector<Image> images) {
                     EXPECT_EQ(first, values.size());
                     for (const Image& image : images) values.push_back(image.rgb.front());
                   }});
    return values;
  }
  std::string refused(const PictureRequest& request) {
    const std::string message = refusal([&] { draw(request); });
    EXPECT_THAT(log_, IsEmpty()) << "something was loaded first";
    return message;
  }

  Log log_;
  TextToImagePipeline pipeline_{std::make_unique<FakeModel>(log_), SchedulerConfig{},
                                torch::kFloat32};
};

/// Of a model whose encoders do not fit beside its transformer.
TextToImagePipeline pipeline_in_turns(
    Log& log, std::int64_t room = std::numeric_limits<std::int64_t>::max()) {
  auto model = std::make_unique<FakeModel>(log, std::nullopt, room);
  model->too_large = "encoder beside the transformer";
  return {std::move(model), SchedulerConfig{}, torch::kFloat32};
}

int level(double value) { return static_cast<int>(std::lround(127.5 * (value + 1))); }

TEST_F(TextToImage, EncodersAreFreedBeforeTheTransformerIsLoaded) {
  draw({.prompts = {"0", "0.5", "0"}, .seeds = {1, 2, 3}});
  EXPECT_THAT(log_, ElementsAre("load encoder", "encode 0", "encode 0.5", "free encoder",
                                "load transformer", "load autoencoder"));
  log_.clear();
  draw({.prompts = {"0.5"}, .seeds = {4}});
  EXPECT_THAT(log_, IsEmpty()) << "nothing new had to be loaded";
  draw({.prompts = {"0.25"}, .seeds = {4}});
  EXPECT_THAT(log_, ElementsAre("load encoder", "encode 0.25", "free encoder"))
      << "all parts fit beside each other";
}

TEST_F(TextToImage, TheTransformerIsFreedWhereEncodersDoNotFitBesideIt) {
  TextToImagePipeline pipeline = pipeline_in_turns(log_);
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  const auto before = std::ssize(log_);
  pipeline.prepare({.prompts = {"0.25"}, .seeds = {4}});
  EXPECT_THAT(std::vector(log_.begin() + before, log_.end()),
              ElementsAre("free transformer", "free autoencoder", "load encoder", "encode 0.25",
                          "free encoder", "load transformer", "load autoencoder"));
}

TEST_F(TextToImage, TheTransformerIsFreedWhereEncodingBesideItTakesTooMuch) {
  auto model = std::make_unique<FakeModel>(log_);
  model->states_too_large = true;
  TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  const auto before = std::ssize(log_);
  pipeline.prepare({.prompts = {"0.25", "0.5"}, .seeds = {4, 5}});
  EXPECT_THAT(std::vector(log_.begin() + before, log_.end()),
              ElementsAre("load encoder", "encode 0.25", "free encoder", "free transformer",
                          "free autoencoder", "load encoder", "encode 0.5", "free encoder",
                          "load transformer", "load autoencoder"))
      << "no prompt is encoded twice";
}

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

TEST_F(TextToImage, PreparingForgetsThePromptsOfOtherRequests) {
  const PictureRequest first{.prompts = {"0.5", "0"}, .seeds = {1, 2}};
  pipeline_.prepare(first);
  pipeline_.prepare({.prompts = {"0"}, .seeds = {1}});
  log_.clear();
  draw({.prompts = {"0"}, .seeds = {1}});
  EXPECT_THAT(log_, IsEmpty());
  draw(first);
  EXPECT_THAT(log_, Contains("encode 0.5"));
  EXPECT_THAT(log_, Not(Contains("encode 0")));
}

TEST_F(TextToImage, LayersAreChangedOfEveryTransformerThatIsLoaded) {
  TextToImagePipeline pipeline = pipeline_in_turns(log_);
  pipeline.set_layer_change([&](torch::nn::Module&) { log_.push_back("change"); });
  pipeline.prepare({.prompts = {"0"}, .seeds = {1}});
  pipeline.prepare({.prompts = {"0"}, .seeds = {2}});
  pipeline.prepare({.prompts = {"0.5"}, .seeds = {1}});
  EXPECT_EQ(std::count(log_.begin(), log_.end(), "change"), 2);
  pipeline.set_layer_change([](torch::nn::Module&) { throw Error("does not fit"); });
  const PictureRequest other{.prompts = {"0.25"}, .seeds = {1}};
  const auto refused = [&] {
    return refusal(
        [&] { pipeline.draw(other, {.on_images = [](std::size_t, std::vector<Image>) {}}); });
  };
  EXPECT_EQ(refused(), "does not fit");
  EXPECT_EQ(refused(), "does not fit") << "nothing is drawn as it was loaded";
}

TEST_F(TextToImage, MemoryForEveryPartIsAskedForBeforeTheFirstIsLoaded) {
  const test::TempDir folder;
  pipeline_.set_prompt_cache(PromptCache(folder.path()));
  const PictureRequest request{.prompts = {"0"}, .seeds = {1}};
  for (const char* const part : {"encoder", "transformer"}) {
    auto model = std::make_unique<FakeModel>(log_);
    model->too_large = part;
    TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
    pipeline.set_prompt_cache(PromptCache(folder.path()));
    log_.clear();
    EXPECT_EQ(refusal([&] { pipeline.prepare(request); }),
              "load " + std::string(part) + ": no memory");
    EXPECT_THAT(log_, IsEmpty());
  }
  draw(request);
  auto model = std::make_unique<FakeModel>(log_);
  model->too_large = "encoder";
  TextToImagePipeline pipeline(std::move(model), SchedulerConfig{}, torch::kFloat32);
  pipeline.set_prompt_cache(PromptCache(folder.path()));
  EXPECT_EQ(refusal([&] { pipeline.prepare(request); }), "accepted") << "it is not needed";
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

// 512 x 512 pixels, five tensors of 3 channels in fp32: 15 MiB. A quarter is less than what a tile
// of 256 x 256 pixels takes, 3.75 MiB, which the limit is then, in whole MiB: three tiles of 215
// pixels along each side.
class TextToImageMemory : public testing::Test {
 protected:
  static constexpr int kSide = 512;
  static constexpr std::int64_t kTile = 215 * 215;

  /// On a device of its own: what others hold is not looked at.
  TextToImagePipeline pipeline(std::int64_t room) {
    log_.clear();
    return pipeline_in_turns(log_, room);
  }
  /// What the callbacks heard, in their order.
  std::vector<std::string> drawn(TextToImagePipeline& pipeline,
                                 const std::optional<Image>& image = {}) {
    std::vector<std::string> heard;
    pipeline.draw({.prompts = {"0.5", "0.25"},
                   .seeds = {1, 2},
                   .width = kSide,
                   .height = kSide,
                   .image = image},
                  {.on_images =
                       [&](std::size_t first, const std::vector<Image>& images) {
                         EXPECT_EQ(images.front().rgb.back(), level(first == 0 ? 0.5 : 0.25));
                         heard.push_back("picture " + std::to_string(first));
                       },
                   .on_tiles =
                       [&](std::int64_t mebibytes) {
                         heard.push_back("within " + std::to_string(mebibytes));
                       }});
    return heard;
  }

  Log log_;
};

TEST_F(TextToImageMemory, PicturesThatDoNotFitAreDecodedInTilesFromThereOn) {
  TextToImagePipeline small = pipeline(kTile);
  EXPECT_THAT(drawn(small), ElementsAre("within 4", "picture 0", "picture 1"));
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1"));
  small.prepare({.prompts = {"0"}, .seeds = {1}});
  EXPECT_THAT(log_, Contains("free autoencoder"));
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1")) << "the next one knows as well";
  TextToImagePipeline large = pipeline(kSide * kSide);
  EXPECT_THAT(drawn(large), ElementsAre("picture 0", "picture 1"));
}

TEST_F(TextToImageMemory, AnImageToBeginWithIsEncodedInTiles) {
  TextToImagePipeline small = pipeline(kTile);
  EXPECT_THAT(drawn(small, Image(kSide, kSide)), ElementsAre("within 4", "picture 0", "picture 1"));
}

TEST_F(TextToImageMemory, ALimitThatIsSetIsKept) {
  TextToImagePipeline small = pipeline(kTile);
  small.set_vae_memory(4);
  EXPECT_THAT(drawn(small), ElementsAre("picture 0", "picture 1"));
  TextToImagePipeline later = pipeline(kTile);
  later.prepare({.prompts = {"0.5", "0.25"}, .seeds = {1, 2}});
  later.set_vae_memory(4);
  EXPECT_THAT(drawn(later), ElementsAre("picture 0", "picture 1"));
  log_.clear();
  EXPECT_EQ(refusal([&] { pipeline(1).set_vae_memory(3); }),
            "generate: required at least 4 MiB for the autoencoder, a tile of 256 pixels, got 3");
  EXPECT_THAT(log_, Not(Contains("load encoder")));
}

TEST_F(TextToImageMemory, WhereTheSmallestTileDoesNotFitItIsAnError) {
  TextToImagePipeline none = pipeline(kTile - 1);
  EXPECT_THROW(drawn(none), c10::OutOfMemoryError);
}

TEST_F(TextToImage, AStepThatIsNotFiniteIsNamed) {
  PictureRequest request{.prompts = {"inf"}, .seeds = {1}};
  EXPECT_THAT(refusal([&] { draw(request); }), HasSubstr("transformer, step 1 of 3"));
}

}  // namespace
}  // namespace rtlynx
