// SPDX-License-Identifier: Apache-2.0
// What has to be there before a pipeline draws: prompts' features, transformer, autoencoder.
#include <utility>

#include "base/error.h"
#include "models/device_memory.h"
#include "pipeline/stopwatch.h"
#include "pipeline/text_to_image.h"

namespace rtlynx {

std::set<std::string> TextToImagePipeline::prompts_of(const PictureRequest& request) const {
  std::set<std::string> prompts(request.prompts.begin(), request.prompts.end());
  const PictureSettings settings = settings_for(request);
  if (settings.guided()) prompts.insert(*settings.negative);
  return prompts;
}

torch::nn::Module& TextToImagePipeline::prepare(const PictureRequest& request,
                                                const PictureCallbacks& callbacks) {
  const std::set<std::string> wanted = prompts_of(request);
  std::erase_if(features_, [&](const auto& item) { return !wanted.contains(item.first); });
  load(request, callbacks);
  return transformer();
}

void TextToImagePipeline::load(const PictureRequest& request, const PictureCallbacks& callbacks) {
  // Not InferenceMode: compensations change the weights later.
  const torch::NoGradGuard no_grad;
  std::set<std::string> wanted = prompts_of(request);
  std::erase_if(wanted, [&](const std::string& prompt) { return features_.contains(prompt); });
  if (cache_) find_in_cache(wanted);
  if (!wanted.empty() && !encoders_fit_beside_parts()) {
    free_parts();
    model_->check_encoder_memory(options_);
  }
  if (!is_loaded()) model_->check_drawing_memory(options_);
  if (!wanted.empty()) encode_within_memory(wanted, callbacks);
  if (!is_loaded()) load_parts(callbacks.on_load);
}

void TextToImagePipeline::free_parts() {
  denoiser_.reset();
  autoencoder_.reset();
  release_freed_memory(options_.device());
}

bool TextToImagePipeline::encoders_fit_beside_parts() const {
  if (!is_loaded()) return false;
  try {
    model_->check_encoder_memory(options_);
  } catch (const Error&) {
    return false;
  }
  return true;
}

// Their weights fit beside what is loaded, what they compute may not.
void TextToImagePipeline::encode_within_memory(std::set<std::string>& wanted,
                                               const PictureCallbacks& callbacks) {
  if (is_loaded()) {
    try {
      return encode(wanted, callbacks);
    } catch (const c10::OutOfMemoryError&) {
      free_parts();
    }
    std::erase_if(wanted, [&](const std::string& prompt) { return features_.contains(prompt); });
  }
  encode(wanted, callbacks);
}

void TextToImagePipeline::find_in_cache(std::set<std::string>& prompts) {
  std::erase_if(prompts, [&](const std::string& prompt) {
    const auto found = cache_->find(features_key(encoding_, options_, prompt));
    if (found) features_[prompt] = *found;
    return found.has_value();
  });
}

void TextToImagePipeline::encode(const std::set<std::string>& wanted,
                                 const PictureCallbacks& callbacks) {
  const std::vector<std::string> prompts(wanted.begin(), wanted.end());
  Stopwatch watch;
  const PartCallback on_load = [&](std::string_view part) -> LoadProgress {
    times_.encoding += watch.lap();
    return [&, on_read = callbacks.on_load(part)](std::uint64_t finished, std::uint64_t all) {
      if (on_read) on_read(finished, all);
      if (finished == all) times_.loading += watch.lap();
    };
  };
  model_->encode(prompts, options_, on_load, [&](std::size_t i, const PromptFeatures& features) {
    features_[prompts[i]] = features;
    // At once: a run that ends early has not encoded for nothing.
    if (cache_) cache_->keep(features_key(encoding_, options_, prompts[i]), features);
    callbacks.on_encoded(i + 1, prompts.size());
  });
  times_.encoding += watch.lap();
  release_freed_memory(options_.device());
}

void TextToImagePipeline::load_parts(const PartCallback& on_load) {
  Stopwatch watch;
  std::unique_ptr<Denoiser> denoiser = model_->load_denoiser(options_, on_load("transformer"));
  if (change_layers_) change_layers_(denoiser->transformer());
  autoencoder_ = model_->load_autoencoder(options_, on_load("autoencoder"));
  if (vae_memory_) autoencoder_->set_memory_limit(*vae_memory_ << 20);
  denoiser_ = std::move(denoiser);
  times_.loading += watch.lap();
}

}  // namespace rtlynx
