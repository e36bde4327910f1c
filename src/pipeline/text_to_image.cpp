// SPDX-License-Identifier: Apache-2.0
#include "pipeline/text_to_image.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/device_memory.h"
#include "models/plain_layers.h"
#include "models/text_to_image/parts.h"
#include "models/text_to_image/registry.h"
#include "pipeline/pixels.h"
#include "pipeline/stopwatch.h"
#include "pipeline/vae_memory.h"

namespace rtlynx {
namespace {

constexpr int kMaxSteps = 1000;

SchedulerConfig read_scheduler(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "scheduler_config.json";
  return scheduler_config_from_json(read_json_file(path), printable(path.string()));
}

[[noreturn]] void refuse(const std::string& message) { throw UsageError("generate: " + message); }

/// Without the zeros behind the point.
std::string in_short(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

void check_prompts(const PictureRequest& request) {
  if (request.prompts.empty()) refuse("required at least one prompt, got none");
  if (request.prompts.size() != request.seeds.size()) {
    refuse("required one seed per prompt, got " + std::to_string(request.seeds.size()) + " for " +
           std::to_string(request.prompts.size()));
  }
  if (request.batch < 1) {
    refuse("required a batch of at least 1, got " + std::to_string(request.batch));
  }
}

void check_size(const PictureSettings& settings, const ModelFacts& facts) {
  const std::int64_t step = facts.size_step();
  const auto fits = [&](std::int64_t side) {
    return side >= step && side <= facts.max_size && side % step == 0;
  };
  if (fits(settings.width) && fits(settings.height)) return;
  refuse("required width and height from " + std::to_string(step) + " to " +
         std::to_string(facts.max_size) + " pixels in steps of " + std::to_string(step) + ", got " +
         std::to_string(settings.width) + "x" + std::to_string(settings.height));
}

void check_guidance(const PictureRequest& request, const PictureSettings& settings,
                    const ModelFacts& facts) {
  if (request.guidance && !facts.distilled_guidance) {
    refuse(
        "required no guidance, which this model was not distilled with (true CFG guides it), got " +
        in_short(*request.guidance));
  }
  for (const double strength : {settings.guidance, settings.true_cfg, settings.cfg_truncation,
                                settings.cfg_normalization}) {
    if (!(strength >= 0 && std::isfinite(strength))) {
      refuse("required guidance of at least 0, got " + in_short(strength));
    }
  }
  const bool bounded = settings.cfg_truncation != 1 || settings.cfg_normalization != 0;
  if (bounded && !settings.guided()) {
    refuse("required true CFG above 1 where it is truncated or normalized, got " +
           in_short(settings.true_cfg));
  }
  const bool alone = settings.guided() && !settings.negative;
  const bool unused = !settings.guided() && request.negative;
  if (alone || unused) {
    refuse("required a negative prompt and true CFG above 1 together, got " +
           (alone ? "true CFG " + in_short(settings.true_cfg) + " alone"
                  : "a negative prompt and true CFG " + in_short(settings.true_cfg)));
  }
}

void check_image(const PictureRequest& request, const PictureSettings& settings) {
  const Image& image = *request.image;
  if (image.width != settings.width || image.height != settings.height) {
    refuse("required an image of the size to draw, " + std::to_string(settings.width) + "x" +
           std::to_string(settings.height) + ", got " + std::to_string(image.width) + "x" +
           std::to_string(image.height));
  }
  if (!(request.strength > 0 && request.strength <= 1)) {
    refuse("required a strength above 0 up to 1, got " + in_short(request.strength));
  }
}

/// `guided` [B, C, h, w], each picture of at most `limit` times the norm of its `own`; 0: of any.
torch::Tensor limited(const torch::Tensor& guided, const torch::Tensor& own, double limit) {
  if (limit == 0) return guided;
  const auto norm = [](const torch::Tensor& x) {
    return torch::linalg_vector_norm(x, 2, torch::IntArrayRef({1, 2, 3}), /*keepdim=*/true);
  };
  return guided * (limit * norm(own) / norm(guided)).clamp_max(1);
}

/// Latents [B, C, h, w] of a small picture of the same: means of squares of them.
torch::Tensor made_small(const torch::Tensor& latents) {
  constexpr std::int64_t kSide = 32;  // 256 pixels, where a latent is 8
  const std::int64_t height = latents.size(2), width = latents.size(3);
  const std::int64_t square = (std::max(height, width) + kSide - 1) / kSide;
  return torch::avg_pool2d(latents, {std::min(square, height), std::min(square, width)});
}

std::vector<PromptFeatures> on_device(std::vector<PromptFeatures> features,
                                      const torch::TensorOptions& options) {
  for (PromptFeatures& prompt : features) {
    for (auto& [name, value] : prompt) value = value.to(options);
  }
  return features;
}

}  // namespace

TextToImagePipeline::TextToImagePipeline(const std::filesystem::path& folder,
                                         const torch::TensorOptions& options,
                                         const std::filesystem::path& transformer_file)
    : model_(open_text_to_image_model(folder, transformer_file)),
      scheduler_(read_scheduler(folder / "scheduler")),
      options_(options) {}

TextToImagePipeline::TextToImagePipeline(std::unique_ptr<TextToImageModel> model,
                                         const SchedulerConfig& scheduler,
                                         const torch::TensorOptions& options)
    : model_(std::move(model)), scheduler_(scheduler), options_(options) {}

PictureSettings TextToImagePipeline::settings_for(const PictureRequest& request) const {
  const ModelFacts facts = model_->facts();
  const std::optional<std::string> negative = request.negative ? request.negative : facts.negative;
  PictureSettings settings{
      .steps = request.steps.value_or(facts.steps),
      .guidance = request.guidance.value_or(facts.guidance),
      .true_cfg = request.true_cfg.value_or(negative ? facts.true_cfg : 1),
      .cfg_truncation = request.cfg_truncation,
      .cfg_normalization = request.cfg_normalization,
      .negative = negative,
      .width = request.width.value_or(request.image ? request.image->width : facts.size),
      .height = request.height.value_or(request.image ? request.image->height : facts.size)};
  check_prompts(request);
  check_size(settings, facts);
  check_guidance(request, settings, facts);
  if (settings.steps < 1 || settings.steps > kMaxSteps) {
    refuse("required from 1 to " + std::to_string(kMaxSteps) + " steps, got " +
           std::to_string(settings.steps));
  }
  if (request.image) {
    check_image(request, settings);
    // As diffusers counts them.
    settings.first_step = static_cast<int>(settings.steps - settings.steps * request.strength);
    if (settings.steps_to_run() < 1) {
      refuse("required a strength that leaves a step of " + std::to_string(settings.steps) +
             ", got " + in_short(request.strength));
    }
  }
  return settings;
}

void TextToImagePipeline::set_prompt_cache(const PromptCache& cache) {
  cache_ = cache;
  encoding_ = model_->encoding();
}

void TextToImagePipeline::set_vae_memory(std::int64_t mebibytes) {
  const std::int64_t least = least_vae_memory(*model_->autoencoder_outline(options_));
  if (mebibytes < least) {
    refuse("required at least " + std::to_string(least) +
           " MiB for the autoencoder, a tile of 256 pixels, got " + std::to_string(mebibytes));
  }
  vae_memory_ = mebibytes;
  if (autoencoder_) autoencoder_->set_memory_limit(mebibytes << 20);
}

void TextToImagePipeline::set_preview_decoder(const std::filesystem::path& folder) {
  const ModelFacts facts = model_->facts();
  if (facts.latent_space != kTinyLatentSpace) {
    refuse("required a model with latents of " + std::string(kTinyLatentSpace) +
           " for previews by an AutoencoderTiny, got latents of " + facts.latent_space);
  }
  auto decoder = load_tiny_decoder(folder, options_);
  const PartsFit fit(folder);
  fit.equal("latent_channels, the model's,", facts.latent_channels, decoder->latent_channels());
  fit.equal("pixels for each latent, the model's,", facts.latent_factor, decoder->factor());
  preview_decoder_ = std::move(decoder);
}

torch::Tensor TextToImagePipeline::preview_of(const torch::Tensor& latents) {
  return preview_decoder_ ? preview_decoder_->decode(latents)
                          : autoencoder_->decode(made_small(latents));
}

void TextToImagePipeline::draw(const PictureRequest& request, const PictureCallbacks& callbacks) {
  const PictureSettings settings = settings_for(request);
  load(request, callbacks);
  const torch::InferenceMode inference;
  std::optional<LatentDistribution> image;
  if (request.image) {
    const torch::Tensor pixels = pixels_from_images({&*request.image, 1}).to(options_);
    within_memory(settings, callbacks, [&] { image = autoencoder_->encode(pixels); });
  }
  const std::size_t count = request.prompts.size();
  const auto batch = static_cast<std::size_t>(request.batch);
  const int all = static_cast<int>((count + batch - 1) / batch) * settings.steps_to_run();
  int before = 0;
  for (std::size_t first = 0; first < count; first += batch) {
    const auto part = [&](const auto& all_of_them) {
      return std::vector(all_of_them.begin() + first,
                         all_of_them.begin() + std::min(count, first + batch));
    };
    const std::vector<std::uint64_t> seeds = part(request.seeds);
    Stopwatch watch;
    ForeseenCallback preview;
    if (callbacks.preview_every > 0) {
      preview = [&](int finished, const torch::Tensor& foreseen) {
        if (finished % callbacks.preview_every != 0 || finished == settings.steps_to_run()) return;
        times_.denoising += watch.lap();
        try {
          callbacks.on_preview(first, images_from_pixels(preview_of(foreseen)));
        } catch (const c10::OutOfMemoryError&) {
          callbacks.on_no_preview();
        }
        times_.decoding += watch.lap();
      };
    }
    const torch::Tensor latents = denoise(
        part(request.prompts), settings,
        image ? noised(*image, seeds, settings) : draw_noise(seeds, settings),
        [&](int finished) { callbacks.on_step(before + finished, all); }, preview);
    before += settings.steps_to_run();
    times_.denoising += watch.lap();
    torch::Tensor pixels;
    within_memory(settings, callbacks, [&] { pixels = autoencoder_->decode(latents); });
    std::vector<Image> images = images_from_pixels(pixels);
    times_.decoding += watch.lap();
    callbacks.on_images(first, std::move(images));
  }
}

void TextToImagePipeline::within_memory(const PictureSettings& settings,
                                        const PictureCallbacks& callbacks,
                                        const std::function<void()>& work) {
  const auto keep_limit = [&](std::int64_t mebibytes) {
    vae_memory_ = mebibytes;
    release_freed_memory(options_.device());
    callbacks.on_tiles(mebibytes);
  };
  run_within_memory(*autoencoder_, {.height = settings.height, .width = settings.width}, work,
                    keep_limit);
}

torch::Tensor TextToImagePipeline::draw_noise(const std::vector<std::uint64_t>& seeds,
                                              const PictureSettings& settings) const {
  const std::vector<std::int64_t> shape = latent_shape(settings);
  std::vector<torch::Tensor> noise;
  for (const std::uint64_t seed : seeds) {
    auto generator = at::detail::createCPUGenerator(seed);
    noise.push_back(torch::randn(shape, generator, latent_options().device(torch::kCPU)));
  }
  return torch::cat(noise).to(options_.device());
}

torch::Tensor TextToImagePipeline::noised(const LatentDistribution& image,
                                          const std::vector<std::uint64_t>& seeds,
                                          const PictureSettings& settings) const {
  const std::vector<std::int64_t> shape = latent_shape(settings);
  // In the weights' type, as diffusers has it.
  const torch::Tensor sigma = torch::full(
      {}, schedule_for(settings).sigmas[static_cast<std::size_t>(settings.first_step)], options_);
  std::vector<torch::Tensor> starts;
  for (const std::uint64_t seed : seeds) {
    auto generator = at::detail::createCPUGenerator(seed);
    const auto draw = [&] {
      return torch::randn(shape, generator, options_.device(torch::kCPU)).to(options_.device());
    };
    const torch::Tensor latents = autoencoder_->scaled(image.sample(draw()));
    starts.push_back(sigma * draw() + (1 - sigma) * latents);
  }
  return torch::cat(starts);
}

torch::Tensor TextToImagePipeline::denoise(const std::vector<std::string>& prompts,
                                           const PictureSettings& settings,
                                           const torch::Tensor& start,
                                           const std::function<void(int finished)>& on_step,
                                           const ForeseenCallback& on_foreseen) {
  const torch::InferenceMode inference;
  const Schedule schedule = schedule_for(settings);
  DenoiserInput wanted{.latents = start.to(latent_options()),
                       .features = on_device(features_of(prompts), options_),
                       .guidance = settings.guidance};
  DenoiserInput unwanted = wanted;
  if (settings.guided()) {
    unwanted.features =
        on_device(features_of(std::vector(prompts.size(), *settings.negative)), options_);
  }
  on_step(0);
  for (int step = settings.first_step; step < schedule.steps(); ++step) {
    wanted.sigma = unwanted.sigma = schedule.sigmas[static_cast<std::size_t>(step)];
    unwanted.latents = wanted.latents;
    torch::Tensor velocity = denoiser_->velocity(wanted);
    if (settings.guided() && 1 - wanted.sigma <= settings.cfg_truncation) {
      velocity =
          limited(denoiser_->guide(velocity, denoiser_->velocity(unwanted), settings.true_cfg),
                  velocity, settings.cfg_normalization);
    }
    const std::string stage =
        "transformer, step " + std::to_string(step + 1) + " of " + std::to_string(settings.steps);
    require_finite(velocity, stage.c_str());
    const int finished = step + 1 - settings.first_step;
    if (on_foreseen) {
      on_foreseen(finished, (wanted.latents - wanted.sigma * velocity).to(latent_options()));
    }
    wanted.latents = euler_step(schedule, step, wanted.latents, velocity).to(latent_options());
    on_step(finished);
  }
  return wanted.latents;
}

std::vector<std::int64_t> TextToImagePipeline::latent_shape(const PictureSettings& settings) const {
  const ModelFacts facts = model_->facts();
  return {1, facts.latent_channels, settings.height / facts.latent_factor,
          settings.width / facts.latent_factor};
}

Schedule TextToImagePipeline::schedule_for(const PictureSettings& settings) const {
  const std::int64_t step = model_->facts().size_step();
  return make_schedule(scheduler_, settings.steps,
                       (settings.height / step) * (settings.width / step));
}

torch::TensorOptions TextToImagePipeline::latent_options() const {
  return model_->facts().fp32_latents ? options_.dtype(torch::kFloat32) : options_;
}

std::vector<PromptFeatures> TextToImagePipeline::features_of(
    const std::vector<std::string>& prompts) const {
  std::vector<PromptFeatures> features;
  for (const std::string& prompt : prompts) features.push_back(features_.at(prompt));
  return features;
}

}  // namespace rtlynx
