// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "layers/embedding.h"
#include "models/flux/blocks.h"
#include "models/layer_group.h"
#include "models/load_progress.h"

namespace rtlynx {

/// The inputs of one forward pass. B images, I image tokens, T text tokens.
struct FluxInputs {
  torch::Tensor hidden_states;          // [B, I, in_channels] noisy latents
  torch::Tensor encoder_hidden_states;  // [B, T, joint_attention_dim] text
  torch::Tensor pooled_projections;     // [B, pooled_projection_dim]
  torch::Tensor timestep;               // [B] sigma in [0, 1]; the model multiplies by 1000
  torch::Tensor guidance;               // [B] if guidance_embeds, else undefined
  torch::Tensor img_ids;                // [I, axes] positions
  torch::Tensor txt_ids;                // [T, axes] positions
};

/// Time, guidance and pooled text as one vector (`time_text_embed`).
class FluxConditioningImpl : public torch::nn::Module {
 public:
  FluxConditioningImpl(const FluxConfig& config, const torch::TensorOptions& options);

  /// timestep and guidance [B] in thousandths, pooled [B, p] -> [B, d].
  torch::Tensor forward(const torch::Tensor& timestep, const torch::Tensor& guidance,
                        const torch::Tensor& pooled);

 private:
  MlpEmbedder timestep_embedder_{nullptr}, guidance_embedder_{nullptr}, text_embedder_{nullptr};
};
TORCH_MODULE(FluxConditioning);

/// FLUX.1's transformer with the arithmetic and tensor names of diffusers' FluxTransformer2DModel.
class FluxTransformerImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised.
  explicit FluxTransformerImpl(const FluxConfig& config, const torch::TensorOptions& options = {});

  /// -> velocity [B, I, patch_size^2 * out_channels]. Throws Error for inputs that do not fit the
  /// config, guidance given without `guidance_embeds` or missing with it among them.
  torch::Tensor forward(const FluxInputs& inputs);

  /// What comes before the blocks, of checked inputs.
  struct Start {
    JointStreams streams;
    torch::Tensor temb;  // [B, d]
  };
  Start begin(const FluxInputs& inputs);

  /// What comes behind them: image [B, I, d] -> velocity.
  torch::Tensor finish(const torch::Tensor& image, const torch::Tensor& temb);

  /// The rotation of the joint attention's tokens, complex64 [T + I, head_dim / 2].
  torch::Tensor rotation(const torch::Tensor& txt_ids, const torch::Tensor& img_ids) const;

  const std::vector<DoubleBlock>& double_blocks() const { return double_blocks_; }
  const std::vector<FluxSingleBlock>& single_blocks() const { return single_blocks_; }

  const FluxConfig& config() const { return config_; }

  /// Which of its Linears read one input (flux_groups).
  const std::vector<LayerGroup>& groups() const { return groups_; }

 private:
  void check(const FluxInputs& inputs) const;

  FluxConfig config_;
  std::vector<LayerGroup> groups_;
  SparseLinear x_embedder_{nullptr}, context_embedder_{nullptr}, proj_out_{nullptr};
  FluxConditioning time_text_embed_{nullptr};
  Modulation norm_out_{nullptr};
  std::vector<DoubleBlock> double_blocks_;
  std::vector<FluxSingleBlock> single_blocks_;
};
TORCH_MODULE(FluxTransformer);

/// Reads a diffusers `transformer/` folder: config.json and diffusion_pytorch_model*.safetensors.
/// Throws Error naming file and tensor for whatever does not fit, memory among it, before any is
/// allocated.
FluxTransformer load_flux(const std::filesystem::path& folder, const torch::TensorOptions& options,
                          const LoadProgress& on_progress = {});

}  // namespace rtlynx
