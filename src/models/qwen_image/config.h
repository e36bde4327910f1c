// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace rtlynx {

/// The constructor arguments of diffusers' QwenImageTransformer2DModel, with its defaults.
struct QwenImageConfig {
  std::int64_t patch_size = 2;
  std::int64_t in_channels = 64;
  std::int64_t out_channels = 16;
  std::int64_t num_layers = 60;
  std::int64_t attention_head_dim = 128;
  std::int64_t num_attention_heads = 24;
  std::int64_t joint_attention_dim = 3584;
  std::vector<std::int64_t> axes_dims_rope = {16, 56, 56};

  std::int64_t hidden_dim() const { return attention_head_dim * num_attention_heads; }
};

/// Reads a `transformer/config.json`. `where` names the file in messages. Throws Error for another
/// class, for a value of the wrong type or range, and, by name, for every option that this
/// implementation does not have: those of Edit-2511 and of Layered among them.
QwenImageConfig qwen_image_config_from_json(const nlohmann::json& config, const std::string& where);

/// The config.json that diffusers would write.
nlohmann::json to_json(const QwenImageConfig& config);

}  // namespace rtlynx
