// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace rtlynx {

// What a text encoder's config.json says, in transformers' terms. The readers throw Error, naming
// `where`, for another kind of model and for every option that would change the arithmetic and is
// not supported; options that do not matter here (dropout, caches, initial values) are not looked
// at.

struct ClipTextConfig {
  std::int64_t vocab_size = 49408;
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 3072;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t max_position_embeddings = 77;
  std::int64_t eos_token_id = 2;  ///< 2 in older files, where it stands for the largest id
  double layer_norm_eps = 1e-5;
  bool quick_gelu = true;  ///< x * sigmoid(1.702 x) instead of GELU
};

struct T5Config {
  std::int64_t vocab_size = 32128;
  std::int64_t d_model = 4096;
  std::int64_t d_kv = 64;
  std::int64_t d_ff = 10240;
  std::int64_t num_layers = 24;
  std::int64_t num_heads = 64;
  double layer_norm_epsilon = 1e-6;
};

/// A decoder-only language model of the Qwen line.
struct DecoderConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 1e6;
  bool qkv_bias = false;  ///< Qwen2.5: q, k and v have a bias
  bool qk_norm = false;   ///< Qwen3: q and k are normalized per head
};

ClipTextConfig clip_text_config_from_json(const nlohmann::json& config, const std::string& where);
T5Config t5_config_from_json(const nlohmann::json& config, const std::string& where);

/// The language part of a Qwen2.5-VL model, whose config is the whole file or its `text_config`.
DecoderConfig qwen2_5_vl_config_from_json(const nlohmann::json& config, const std::string& where);
DecoderConfig qwen3_config_from_json(const nlohmann::json& config, const std::string& where);

}  // namespace rtlynx
