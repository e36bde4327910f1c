// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "models/layer_group.h"
#include "models/load_progress.h"
#include "models/z_image/blocks.h"
#include "models/z_image/sequence.h"

namespace rtlynx {

/// The inputs of one forward pass, for B images of one size.
struct ZImageInputs {
  torch::Tensor hidden_states;          // [B, in_channels, H, W] noisy latents
  torch::Tensor encoder_hidden_states;  // [B, T, cap_feat_dim] captions
  /// Tokens of each caption, 1 to T: rows behind them are not read. Empty: T each. On the host,
  /// because they decide how many tokens there are.
  std::vector<std::int64_t> caption_tokens;
  torch::Tensor timestep;  // [B] 1 - sigma; kept in its own type, as diffusers does
};

/// Z-Image's transformer with the arithmetic and tensor names of diffusers'
/// ZImageTransformer2DModel. Like that, it gives the negative of the velocity that a scheduler
/// integrates.
class ZImageTransformerImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised.
  explicit ZImageTransformerImpl(const ZImageConfig& config,
                                 const torch::TensorOptions& options = {});

  /// -> [B, in_channels, H, W]. Throws Error for inputs that do not fit the config, more tokens
  /// than axes_lens has positions among them.
  torch::Tensor forward(const ZImageInputs& inputs);

  /// How the tokens of checked inputs lie.
  ZImageSequence sequence(const ZImageInputs& inputs) const;

  /// What comes before the blocks, of checked inputs, each stream with its padding.
  struct Start {
    torch::Tensor image;    // [B, image_tokens, d]
    torch::Tensor caption;  // [B, caption_tokens, d]
    torch::Tensor temb;     // [B, time_dim]
  };
  Start begin(const ZImageInputs& inputs);

  /// What comes behind them: the patches' rows [B, rows * columns, d] -> [B, in_channels, H, W].
  torch::Tensor finish(const torch::Tensor& patches, const torch::Tensor& temb,
                       const ZImageSequence& sequence);

  /// The rotation of each image's joint sequence, complex64 [B, S, head_dim / 2], on the CPU.
  torch::Tensor rotation(const ZImageInputs& inputs) const;

  const std::vector<ZImageBlock>& noise_refiner() const { return noise_refiner_; }
  const std::vector<ZImageBlock>& context_refiner() const { return context_refiner_; }
  const std::vector<ZImageBlock>& layers() const { return layers_; }

  const ZImageConfig& config() const { return config_; }

  /// Which of its Linears read one input (z_image_groups).
  const std::vector<LayerGroup>& groups() const { return groups_; }

 private:
  void check(const ZImageInputs& inputs) const;
  torch::Tensor embed_captions(const torch::Tensor& captions, const ZImageSequence& sequence);

  ZImageConfig config_;
  std::vector<LayerGroup> groups_;
  SparseLinear x_embedder_{nullptr}, final_linear_{nullptr}, final_modulation_{nullptr};
  SparseLinear time_in_{nullptr}, time_out_{nullptr}, caption_linear_{nullptr};
  PlainRmsNorm caption_norm_{nullptr};
  torch::Tensor x_pad_token_, cap_pad_token_;  // [1, d]
  std::vector<ZImageBlock> noise_refiner_, context_refiner_, layers_;
};
TORCH_MODULE(ZImageTransformer);

/// Reads a diffusers `transformer/` folder: config.json and diffusion_pytorch_model*.safetensors.
/// Throws Error naming file and tensor for whatever does not fit, memory among it, before any is
/// allocated.
ZImageTransformer load_z_image(const std::filesystem::path& folder,
                               const torch::TensorOptions& options,
                               const LoadProgress& on_progress = {});

}  // namespace rtlynx
