// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/config.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "models/component_config.h"

namespace rtlynx {
namespace {

constexpr const char* kClassName = "QwenImageTransformer2DModel";
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxChannels = 1 << 20;
constexpr std::size_t kAxes = 3;  // image, row, column

// Early files carry a pooled_projection_dim, which no version of the model reads.
constexpr std::array<std::string_view, 13> kKnownOptions = {
    "patch_size",      "in_channels",         "out_channels",
    "num_layers",      "attention_head_dim",  "num_attention_heads",
    "axes_dims_rope",  "joint_attention_dim", "pooled_projection_dim",
    "guidance_embeds", "zero_cond_t",         "use_additional_t_cond",
    "use_layer3d_rope"};

// guidance_embeds: no version of diffusers' model embeds a guidance. zero_cond_t: Edit-2511.
// use_additional_t_cond, use_layer3d_rope: Layered.
void refuse_other_models(const nlohmann::json& config, const std::string& where) {
  for (const char* key :
       {"guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"}) {
    require(!json_bool(config, key, where, false), where,
            std::string(key) + " = false in a " + kClassName, "true, which is not supported");
  }
}

void check_rotary(const QwenImageConfig& config, const std::string& where) {
  const auto& axes = config.axes_dims_rope;
  const bool even = std::all_of(axes.begin(), axes.end(),
                                [](std::int64_t dim) { return dim > 0 && dim % 2 == 0; });
  const std::int64_t sum = std::accumulate(axes.begin(), axes.end(), std::int64_t{0});
  require(axes.size() == kAxes && even && sum == config.attention_head_dim, where,
          "axes_dims_rope: three even positive numbers that sum to attention_head_dim = " +
              std::to_string(config.attention_head_dim),
          nlohmann::json(axes).dump());
}

}  // namespace

QwenImageConfig qwen_image_config_from_json(const nlohmann::json& config,
                                            const std::string& where) {
  check_component(config, kClassName, kKnownOptions, where);
  refuse_other_models(config, where);
  QwenImageConfig result;
  // Absent or null keeps the default.
  const auto read = [&](const char* key, std::int64_t& value, std::int64_t min, std::int64_t max) {
    value = json_int(config, key, where, {.min = min, .max = max, .fallback = value});
  };
  read("patch_size", result.patch_size, 1, 64);
  read("in_channels", result.in_channels, 1, kMaxChannels);
  // To diffusers, null here means in_channels.
  if (config.contains("out_channels") && config.at("out_channels").is_null()) {
    result.out_channels = result.in_channels;
  }
  read("out_channels", result.out_channels, 1, kMaxChannels);
  read("num_layers", result.num_layers, 1, kMaxLayers);
  read("attention_head_dim", result.attention_head_dim, 2, kMaxChannels);
  read("num_attention_heads", result.num_attention_heads, 1, kMaxChannels);
  read("joint_attention_dim", result.joint_attention_dim, 1, kMaxChannels);
  if (json_has(config, "axes_dims_rope")) {
    result.axes_dims_rope = json_ints(config, "axes_dims_rope", where);
  }
  check_rotary(result, where);
  return result;
}

nlohmann::json to_json(const QwenImageConfig& config) {
  return {{"_class_name", kClassName},
          {"patch_size", config.patch_size},
          {"in_channels", config.in_channels},
          {"out_channels", config.out_channels},
          {"num_layers", config.num_layers},
          {"attention_head_dim", config.attention_head_dim},
          {"num_attention_heads", config.num_attention_heads},
          {"joint_attention_dim", config.joint_attention_dim},
          {"guidance_embeds", false},
          {"axes_dims_rope", config.axes_dims_rope},
          {"zero_cond_t", false},
          {"use_additional_t_cond", false},
          {"use_layer3d_rope", false}};
}

}  // namespace rtlynx
