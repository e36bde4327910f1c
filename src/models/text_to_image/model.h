// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/libtorch.h"
#include "models/checkpoint/layer_names.h"
#include "models/layer_group.h"
#include "models/load_progress.h"
#include "models/vae/vae.h"

namespace rtlynx {

/// What a transformer reads of one prompt: tensors by name, without a dimension for the batch.
using PromptFeatures = std::map<std::string, torch::Tensor>;

/// One step's input for B pictures.
struct DenoiserInput {
  torch::Tensor latents;                 // [B, C, h, w]
  double sigma = 1;                      ///< noise level, from 1 (noise) to 0 (picture)
  std::vector<PromptFeatures> features;  ///< B, on the transformer's device
  double guidance = 0;                   ///< for a transformer that was distilled with guidance
};

/// A family's transformer at work.
class Denoiser {
 public:
  virtual ~Denoiser() = default;

  /// d latents / d sigma, [B, C, h, w].
  virtual torch::Tensor velocity(const DenoiserInput& input) = 0;

  /// Classifier-free guidance: from the velocity of a negative prompt past the prompt's own.
  virtual torch::Tensor guide(const torch::Tensor& wanted, const torch::Tensor& unwanted,
                              double strength) const {
    return unwanted + strength * (wanted - unwanted);
  }

  /// For what changes the layers: modes, compensations, low-rank updates. Asked for anew for each
  /// change: velocity() may keep what it made of the layers since.
  virtual torch::nn::Module& transformer() = 0;
};

/// What a model draws, and how when nothing else is asked for.
struct ModelFacts {
  std::int64_t latent_channels = 16;
  std::string latent_space;        ///< the model whose autoencoder made it
  std::int64_t latent_factor = 8;  ///< pixels along a side for each one of latents
  std::int64_t patch = 2;          ///< latents along a side of a token
  std::int64_t size = 1024;        ///< pixels along a side
  std::int64_t max_size = 8192;    ///< pixels along a side at most
  int steps = 28;
  bool distilled_guidance = false;  ///< whether the transformer reads the strength of guidance
  double guidance = 0;
  double true_cfg = 1;                  ///< classifier-free guidance, if there is a negative prompt
  std::optional<std::string> negative;  ///< the negative prompt where none is given
  bool fp32_latents = false;            ///< whatever the type of the weights
  std::int64_t text_tokens = 512;       ///< of the longest prompt

  /// Sides of pictures are multiples of it.
  std::int64_t size_step() const { return latent_factor * patch; }

  /// Of one picture of so many pixels, with the longest prompt.
  StreamTokens tokens(std::int64_t width, std::int64_t height) const {
    return {.image = (width / size_step()) * (height / size_step()), .text = text_tokens};
  }
};

/// Called with the name of a part before it is loaded. What it returns, unless it is empty, is
/// told the bytes that are read of it.
using PartCallback = std::function<LoadProgress(std::string_view part)>;

/// Called with the features of prompts[index], on the CPU, as soon as they are there.
using FeaturesCallback = std::function<void(std::size_t index, PromptFeatures features)>;

/// A text-to-image model in a folder in diffusers' layout. It knows the tokenizers and what all
/// parts are, and holds no weights: every load reads them anew.
class TextToImageModel {
 public:
  virtual ~TextToImageModel() = default;

  virtual ModelFacts facts() const = 0;

  /// Which of the transformer's Linears read one input.
  virtual std::vector<LayerGroup> groups() const = 0;

  /// How other programs name the transformer's layers.
  virtual std::vector<ForeignModule> foreign_modules() const = 0;

  /// The transformer without weights (device meta): the names and shapes of its layers.
  virtual std::shared_ptr<torch::nn::Module> outline() const = 0;

  /// What does not fit into the text encoders, as sentences for the user. Throws UsageError for
  /// invalid UTF-8.
  virtual std::vector<std::string> warnings(std::string_view prompt) const = 0;

  /// What features depend on besides the prompt: the files of tokenizers and text encoders, and how
  /// they are used.
  virtual std::string encoding() const = 0;

  /// Throws Error unless the text encoders, each alone, fit into the memory that is free.
  virtual void check_encoder_memory(const torch::TensorOptions& options) const = 0;

  /// The same of transformer and autoencoder together.
  virtual void check_drawing_memory(const torch::TensorOptions& options) const = 0;

  /// Encodes the prompts, one after the other. The text encoders are loaded, used and freed in
  /// turn.
  virtual void encode(const std::vector<std::string>& prompts, const torch::TensorOptions& options,
                      const PartCallback& on_load, const FeaturesCallback& on_features) const = 0;

  virtual std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions& options,
                                                  const LoadProgress& on_progress) const = 0;
  /// The autoencoder without weights (device meta), of the type of `options`.
  virtual std::shared_ptr<Vae> autoencoder_outline(const torch::TensorOptions& options) const = 0;
  virtual std::shared_ptr<Vae> load_autoencoder(const torch::TensorOptions& options,
                                                const LoadProgress& on_progress) const = 0;
};

}  // namespace rtlynx
