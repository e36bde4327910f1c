// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "models/load_progress.h"
#include "models/plain_layers.h"
#include "models/text/text_config.h"

namespace rtlynx {

/// What CLIP makes of a prompt.
struct ClipTextFeatures {
  torch::Tensor tokens;  // [B, L, d] after the final norm
  torch::Tensor pooled;  // [B, d] the row of the first end token
};

/// One pre-norm layer: causal attention, then an MLP.
class ClipLayerImpl : public torch::nn::Module {
 public:
  ClipLayerImpl(const ClipTextConfig& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);  // [B, L, d]

 private:
  torch::Tensor attend(const torch::Tensor& x);

  std::int64_t head_dim_;
  bool quick_gelu_;
  PlainLayerNorm layer_norm1_{nullptr}, layer_norm2_{nullptr};
  PlainLinear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, out_proj_{nullptr};
  PlainLinear fc1_{nullptr}, fc2_{nullptr};
};
TORCH_MODULE(ClipLayer);

/// CLIP's text model with the arithmetic and tensor names of transformers' CLIPTextModel.
class ClipTextModelImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised.
  explicit ClipTextModelImpl(const ClipTextConfig& config,
                             const torch::TensorOptions& options = {});

  /// ids [B, L] (int64, on the CPU), L at most max_position_embeddings. Padding is not masked: what
  /// comes after the first end token does not reach its row.
  ClipTextFeatures forward(const torch::Tensor& ids);

  const ClipTextConfig& config() const { return config_; }

 private:
  ClipTextConfig config_;
  torch::Device device_;
  TokenTable token_embedding_{nullptr}, position_embedding_{nullptr};
  std::vector<ClipLayer> layers_;
  PlainLayerNorm final_layer_norm_{nullptr};
};
TORCH_MODULE(ClipTextModel);

/// Reads a `text_encoder/` folder: config.json and model*.safetensors. Throws Error naming file and
/// tensor for whatever does not fit. On the meta device it only checks.
ClipTextModel load_clip_text(const std::filesystem::path& folder,
                             const torch::TensorOptions& options,
                             const LoadProgress& on_progress = {});

}  // namespace rtlynx
