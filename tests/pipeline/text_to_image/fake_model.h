// SPDX-License-Identifier: Apache-2.0
// A model for tests of the pipeline: it logs what is loaded and freed, and draws what prompts say.
#pragma once

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "pipeline/text_to_image.h"
#include "refusal.h"

namespace rtlynx::test {

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
    EXPECT_THAT(log_, testing::IsEmpty()) << "something was loaded first";
    return message;
  }

  Log log_;
  TextToImagePipeline pipeline_{std::make_unique<FakeModel>(log_), SchedulerConfig{},
                                torch::kFloat32};
};

/// Of a model whose encoders do not fit beside its transformer.
inline TextToImagePipeline pipeline_in_turns(
    Log& log, std::int64_t room = std::numeric_limits<std::int64_t>::max()) {
  auto model = std::make_unique<FakeModel>(log, std::nullopt, room);
  model->too_large = "encoder beside the transformer";
  return {std::move(model), SchedulerConfig{}, torch::kFloat32};
}

inline int level(double value) { return static_cast<int>(std::lround(127.5 * (value + 1))); }

}  // namespace rtlynx::test
