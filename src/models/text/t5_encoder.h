// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "models/load_progress.h"
#include "models/plain_layers.h"
#include "models/text/text_config.h"

namespace rtlynx {

/// One pre-norm block: attention with a bias by distance and without a scale, then a gated MLP.
class T5BlockImpl : public torch::nn::Module {
 public:
  /// Block 0 holds the table of biases that all blocks use.
  T5BlockImpl(const T5Config& config, bool with_bias_table, const torch::TensorOptions& options);

  /// x [B, L, d], bias [1, heads, L, L] -> [B, L, d].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& bias);

  /// [1, heads, L, L] of block 0.
  torch::Tensor position_bias(std::int64_t length);

 private:
  torch::Tensor attend(const torch::Tensor& x, const torch::Tensor& bias);

  std::int64_t head_dim_;
  PlainLinear q_{nullptr}, k_{nullptr}, v_{nullptr}, o_{nullptr};
  PlainLinear wi_0_{nullptr}, wi_1_{nullptr}, wo_{nullptr};
  PlainRmsNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
  TokenTable bias_table_{nullptr};  // [buckets, heads]
};
TORCH_MODULE(T5Block);

/// The encoder of T5 v1.1 with the arithmetic and tensor names of transformers' T5EncoderModel.
class T5EncoderImpl : public torch::nn::Module {
 public:
  /// Parameters are allocated with `options` and not initialised.
  explicit T5EncoderImpl(const T5Config& config, const torch::TensorOptions& options = {});

  /// ids [B, L] (int64, on the CPU) -> [B, L, d] after the final norm. Padding is not masked: FLUX
  /// was trained on states that saw it.
  torch::Tensor forward(const torch::Tensor& ids);

  const T5Config& config() const { return config_; }

 private:
  T5Config config_;
  TokenTable shared_{nullptr};
  std::vector<T5Block> blocks_;
  PlainRmsNorm final_layer_norm_{nullptr};
};
TORCH_MODULE(T5Encoder);

/// The bucket of every distance: int64 [L, L], row query, column key. Near distances have one each,
/// far ones share, and the two directions have 16 each (arXiv 1910.10683).
torch::Tensor t5_position_buckets(std::int64_t length);

/// Reads a `text_encoder_2/` folder: config.json and model*.safetensors. Throws Error naming file
/// and tensor for whatever does not fit, and UsageError for fp16, in which T5 overflows. On the
/// meta device it only checks.
T5Encoder load_t5_encoder(const std::filesystem::path& folder, const torch::TensorOptions& options,
                          const LoadProgress& on_progress = {});

}  // namespace rtlynx
