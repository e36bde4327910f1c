// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "layers/embedding.h"
#include "layers/modulation.h"
#include "models/double_block.h"
#include "models/layer_group.h"
#include "models/load_progress.h"
#include "models/plain_layers.h"
#include "models/qwen_image/config.h"

namespace rtlynx {

/// An image's height and width in tokens.
struct TokenGrid {
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  bool operator==(const TokenGrid&) const = default;
};

/// The inputs of one forward pass. B images, I image tokens, T text tokens.
struct QwenImageInputs {
  torch::Tensor hidden_states;          // [B, I, in_channels] noisy latents, then references
  torch::Tensor encoder_hidden_states;  // [B, T, joint_attention_dim] text
  /// Tokens of each prompt, 1 to T: no token attends to those behind them. Empty: T each.
  std::vector<std::int64_t> text_tokens;
  torch::Tensor timestep;  // [B] sigma in [0, 1]; the model multiplies by 1000
  /// Of the image, then of each reference image of an edit; together I tokens.
  std::vector<TokenGrid> img_shapes;
};

/// Qwen-Image's transformer with the arithmetic and tensor names of diffusers'
/// QwenImageTransformer2DModel.
class QwenImageTransformerImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised.
  explicit QwenImageTransformerImpl(const QwenImageConfig& config,
                                    const torch::TensorOptions& options = {});

  /// -> velocity [B, I, patch_size^2 * out_channels]. Throws Error for inputs that do not fit the
  /// config or each other.
  torch::Tensor forward(const QwenImageInputs& inputs);

  /// What comes before the blocks, of checked inputs.
  struct Start {
    JointStreams streams;
    torch::Tensor temb;  // [B, d]
    torch::Tensor mask;  // [B, 1, 1, T + I] bool, or undefined if no prompt is padded
  };
  Start begin(const QwenImageInputs& inputs);

  /// What comes behind them: image [B, I, d] -> velocity.
  torch::Tensor finish(const torch::Tensor& image, const torch::Tensor& temb);

  /// The rotation of the joint attention's tokens, complex64 [T + I, head_dim / 2], on the CPU.
  /// Rows and columns count from the middle of each image, text from the largest half.
  torch::Tensor rotation(std::int64_t text_tokens, const std::vector<TokenGrid>& img_shapes) const;

  const std::vector<DoubleBlock>& blocks() const { return blocks_; }

  const QwenImageConfig& config() const { return config_; }

  /// Which of its Linears read one input (qwen_image_groups).
  const std::vector<LayerGroup>& groups() const { return groups_; }

 private:
  void check(const QwenImageInputs& inputs) const;

  QwenImageConfig config_;
  std::vector<LayerGroup> groups_;
  MlpEmbedder timestep_embedder_{nullptr};
  PlainRmsNorm txt_norm_{nullptr};
  SparseLinear img_in_{nullptr}, txt_in_{nullptr}, proj_out_{nullptr};
  Modulation norm_out_{nullptr};
  std::vector<DoubleBlock> blocks_;
};
TORCH_MODULE(QwenImageTransformer);

/// Reads a diffusers `transformer/` folder: config.json and diffusion_pytorch_model*.safetensors.
/// Throws Error naming file and tensor for whatever does not fit, memory among it, before any is
/// allocated.
QwenImageTransformer load_qwen_image(const std::filesystem::path& folder,
                                     const torch::TensorOptions& options,
                                     const LoadProgress& on_progress = {});

}  // namespace rtlynx
