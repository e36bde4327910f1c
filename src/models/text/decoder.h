// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "models/load_progress.h"
#include "models/plain_layers.h"
#include "models/text/text_config.h"

namespace rtlynx {

/// Cosines and sines of a sequence's positions, each [L, head_dim].
struct RotaryHalves {
  torch::Tensor cos, sin;
};

/// One pre-norm layer: causal attention with grouped keys and values, then a gated MLP.
class DecoderLayerImpl : public torch::nn::Module {
 public:
  DecoderLayerImpl(const DecoderConfig& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const RotaryHalves& rotary);  // [B, L, d]

 private:
  torch::Tensor attend(const torch::Tensor& x, const RotaryHalves& rotary);

  std::int64_t head_dim_;
  PlainRmsNorm input_layernorm_{nullptr}, post_attention_layernorm_{nullptr};
  PlainRmsNorm q_norm_{nullptr}, k_norm_{nullptr};  // Qwen3
  PlainLinear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, o_proj_{nullptr};
  PlainLinear gate_proj_{nullptr}, up_proj_{nullptr}, down_proj_{nullptr};
};
TORCH_MODULE(DecoderLayer);

/// How much of a language model an encoder runs.
struct DecoderExtent {
  std::int64_t layers = 0;  ///< from the first one on
  bool final_norm = false;
};

/// The states of a decoder-only language model (Qwen2.5-VL's language part, Qwen3) with the
/// arithmetic and tensor names of transformers.
class DecoderModelImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised; those outside `extent` not at
  /// all.
  DecoderModelImpl(const DecoderConfig& config, const DecoderExtent& extent,
                   const torch::TensorOptions& options = {});

  /// ids [B, L] (int64, on the CPU) without padding -> states [B, L, d].
  torch::Tensor forward(const torch::Tensor& ids);

  const DecoderConfig& config() const { return config_; }

 private:
  RotaryHalves rotary(std::int64_t length) const;

  DecoderConfig config_;
  torch::TensorOptions options_;
  TokenTable embed_tokens_{nullptr};
  std::vector<DecoderLayer> layers_;
  PlainRmsNorm norm_{nullptr};
};
TORCH_MODULE(DecoderModel);

/// Qwen-Image's `text_encoder/`: all layers of Qwen2.5-VL's language part and the final norm
/// (hidden_states[-1]). The vision tower and the output head are left in the file. Throws Error
/// naming file and tensor for whatever does not fit. On the meta device it only checks.
DecoderModel load_qwen_image_text_encoder(const std::filesystem::path& folder,
                                          const torch::TensorOptions& options,
                                          const LoadProgress& on_progress = {});

/// Z-Image's `text_encoder/`: all layers of Qwen3 but the last, without the final norm
/// (hidden_states[-2]).
DecoderModel load_z_image_text_encoder(const std::filesystem::path& folder,
                                       const torch::TensorOptions& options,
                                       const LoadProgress& on_progress = {});

}  // namespace rtlynx
