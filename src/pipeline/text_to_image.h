// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/image.h"
#include "base/libtorch.h"
#include "models/text_to_image/model.h"
#include "models/vae/autoencoder_tiny.h"
#include "pipeline/prompt_cache.h"
#include "pipeline/scheduler.h"

namespace rtlynx {

/// What to draw. prompts[i] is drawn from seeds[i]; what is not given is the model's own.
struct PictureRequest {
  std::vector<std::string> prompts;
  std::vector<std::uint64_t> seeds;
  std::optional<std::string> negative;  ///< what not to draw
  /// Classifier-free guidance away from `negative`, or the model's own one; twice the work. 1 is
  /// off.
  std::optional<double> true_cfg;
  double cfg_truncation = 1;       ///< no such guidance once 1 - sigma is larger
  double cfg_normalization = 0;    ///< largest norm of what it gives, in the prompt's own; 0: any
  std::optional<double> guidance;  ///< for a transformer distilled with guidance
  std::optional<int> steps;
  std::optional<std::int64_t> width, height;  ///< pixels
  int batch = 1;                              ///< pictures drawn at once
  std::optional<Image> image;                 ///< to begin with, in place of noise alone
  double strength = 0.6;  ///< the share of the steps that `image` is changed by, above 0 up to 1
};

/// A request with nothing left open.
struct PictureSettings {
  int steps = 0;
  int first_step = 0;  ///< those before it are left out
  double guidance = 0;
  double true_cfg = 1;
  double cfg_truncation = 1;
  double cfg_normalization = 0;
  std::optional<std::string> negative;  ///< there if true_cfg is above 1
  std::int64_t width = 0, height = 0;

  bool guided() const { return true_cfg > 1; }
  int steps_to_run() const { return steps - first_step; }
};

struct PictureCallbacks {
  PartCallback on_load = [](std::string_view) { return LoadProgress(); };
  /// Prompts that were encoded, of those that have to be.
  std::function<void(std::size_t finished, std::size_t all)> on_encoded = [](std::size_t,
                                                                             std::size_t) {};
  /// Finished steps of all batches, from 0 on.
  std::function<void(int finished, int all)> on_step = [](int, int) {};
  /// Each batch's pictures as soon as they are drawn; `first` is the index of the first one.
  std::function<void(std::size_t first, std::vector<Image> images)> on_images;
  /// With n above 0, each batch's pictures as they are foreseen after every n-th step but the last:
  /// in full size by a preview decoder, else small.
  int preview_every = 0;
  std::function<void(std::size_t first, std::vector<Image> images)> on_preview;
  /// In place of on_preview where the device has no memory left for it.
  std::function<void()> on_no_preview = [] {};
  /// The device had no memory left for the autoencoder: from here on its activations are to take
  /// so many MiB, in tiles. set_vae_memory with it draws the same pictures.
  std::function<void(std::int64_t mebibytes)> on_tiles = [](std::int64_t) {};
};

/// How long a pipeline has worked so far, in seconds.
struct WorkTimes {
  double loading = 0;    ///< the parts' weights, and what is done with a loaded transformer
  double encoding = 0;   ///< prompts
  double denoising = 0;  ///< the steps alone
  double decoding = 0;   ///< pictures, and previews
};

/// Called behind each step of a batch, `finished` steps from its first one on, with the latents
/// [B, C, h, w] that its velocity v leads to: x - sigma v for x = (1 - sigma) picture + sigma
/// noise.
using ForeseenCallback = std::function<void(int finished, const torch::Tensor& latents)>;

/// Draws with a model in a folder in diffusers' layout. Text encoders are loaded, used and freed
/// before transformer and autoencoder are loaded, which stay for the next request, also while its
/// prompts are encoded where the memory is enough for all.
class TextToImagePipeline {
 public:
  /// Opens the model and reads `scheduler/`, no weights yet. Throws Error for what does not fit.
  /// `transformer_file`: weights in place of the folder's, unless it is empty.
  TextToImagePipeline(const std::filesystem::path& folder, const torch::TensorOptions& options,
                      const std::filesystem::path& transformer_file = {});

  /// The same with a model that is open.
  TextToImagePipeline(std::unique_ptr<TextToImageModel> model, const SchedulerConfig& scheduler,
                      const torch::TensorOptions& options);

  const TextToImageModel& model() const { return *model_; }

  /// Where prompts' features are looked for and kept from now on.
  void set_prompt_cache(const PromptCache& cache);

  /// Done with every transformer that is loaded, before it draws: modes, compensations, low-rank
  /// updates.
  void set_layer_change(std::function<void(torch::nn::Module& transformer)> change) {
    change_layers_ = std::move(change);
  }

  /// Pictures whose activations in the autoencoder would take more go through it in tiles. Throws
  /// UsageError for less than the smallest tile takes.
  void set_vae_memory(std::int64_t mebibytes);

  /// What decodes previews from now on: an AutoencoderTiny in a folder. Throws Error unless it fits
  /// the model, UsageError unless the model's latents are FLUX.1's.
  void set_preview_decoder(const std::filesystem::path& folder);

  /// Fills in what a request leaves open. Throws UsageError for what cannot be drawn.
  PictureSettings settings_for(const PictureRequest& request) const;

  /// Encodes the request's prompts, those excepted that were encoded before, and forgets the
  /// features of all others, which draw() does not. Then loads the transformer, if it is not there,
  /// and returns it, so that its layers can be changed. It is freed first where encoders have to be
  /// loaded once more and do not fit beside it. What does not fit into memory is refused before
  /// anything is loaded.
  torch::nn::Module& prepare(const PictureRequest& request, const PictureCallbacks& callbacks = {});

  /// The transformer that is loaded. To be asked for anew for each change of its layers.
  torch::nn::Module& transformer() { return denoiser_->transformer(); }

  /// Draws all pictures, preparing what was not prepared. Same request, device, batch, threads and
  /// memory for the autoencoder: same bits.
  void draw(const PictureRequest& request, const PictureCallbacks& callbacks);

  const WorkTimes& times() const { return times_; }

  /// Standard normal noise [B, C, h, w] of the latents' type. Each picture has a generator of its
  /// own, on the CPU, so that it does not depend on its batch or device; diffusers draws the same
  /// for one torch.Generator() per picture.
  torch::Tensor draw_noise(const std::vector<std::uint64_t>& seeds,
                           const PictureSettings& settings) const;

  /// From latents [B, C, h, w] of the first step's level (noise, unless there is an image) for one
  /// batch of prepared prompts to the latents of pictures.
  torch::Tensor denoise(const std::vector<std::string>& prompts, const PictureSettings& settings,
                        const torch::Tensor& start,
                        const std::function<void(int finished)>& on_step,
                        const ForeseenCallback& on_foreseen = {});

 private:
  torch::TensorOptions latent_options() const;
  std::vector<std::int64_t> latent_shape(const PictureSettings& settings) const;
  Schedule schedule_for(const PictureSettings& settings) const;

  /// What prepare() does, without giving the transformer away, which ends its fused form.
  void load(const PictureRequest& request, const PictureCallbacks& callbacks);

  /// The prompts that its pictures read.
  std::set<std::string> prompts_of(const PictureRequest& request) const;
  /// Takes the prompts whose features are cached out of `prompts`.
  void find_in_cache(std::set<std::string>& prompts);
  void encode(const std::set<std::string>& prompts, const PictureCallbacks& callbacks);
  /// The same; frees transformer and autoencoder where there is no memory beside them.
  void encode_within_memory(std::set<std::string>& prompts, const PictureCallbacks& callbacks);
  void load_parts(const PartCallback& on_load);
  void free_parts();
  bool is_loaded() const { return denoiser_ && autoencoder_; }
  bool encoders_fit_beside_parts() const;

  /// Pixels of latents [B, C, h, w] that are foreseen.
  torch::Tensor preview_of(const torch::Tensor& latents);

  /// What the autoencoder does with pictures: in tiles, and all later ones too, where the device
  /// has no memory left for whole ones.
  void within_memory(const PictureSettings& settings, const PictureCallbacks& callbacks,
                     const std::function<void()>& work);

  /// The image as latents, with as much noise as the first step's level has. Each picture draws
  /// both, the encoder's variation first, from its seed, as diffusers does.
  torch::Tensor noised(const LatentDistribution& image, const std::vector<std::uint64_t>& seeds,
                       const PictureSettings& settings) const;
  std::vector<PromptFeatures> features_of(const std::vector<std::string>& prompts) const;

  std::unique_ptr<TextToImageModel> model_;
  SchedulerConfig scheduler_;
  torch::TensorOptions options_;
  std::map<std::string, PromptFeatures> features_;  // by prompt, on the CPU
  std::optional<PromptCache> cache_;
  std::string encoding_;  // the model's, for the cache
  std::function<void(torch::nn::Module&)> change_layers_;
  std::unique_ptr<Denoiser> denoiser_;
  std::shared_ptr<Vae> autoencoder_;
  WorkTimes times_;
  std::shared_ptr<TinyDecoder> preview_decoder_;
  std::optional<std::int64_t> vae_memory_;  // MiB
};

}  // namespace rtlynx
