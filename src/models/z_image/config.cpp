// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/config.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "models/component_config.h"

namespace rtlynx {
namespace {

constexpr const char* kClassName = "ZImageTransformer2DModel";
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxChannels = 1 << 20;
constexpr std::int64_t kMaxPositions = 1 << 20;
constexpr std::size_t kAxes = 3;  // caption or frame, row, column

constexpr std::array<std::string_view, 15> kKnownOptions = {
    "all_patch_size", "all_f_patch_size", "in_channels", "dim",       "n_layers",
    "n_heads",        "n_refiner_layers", "n_kv_heads",  "norm_eps",  "qk_norm",
    "cap_feat_dim",   "rope_theta",       "t_scale",     "axes_dims", "axes_lens"};

/// The only entry of a list of patch sizes.
std::int64_t only_patch(const nlohmann::json& config, const char* key, std::int64_t fallback,
                        const std::string& where) {
  if (!json_has(config, key)) return fallback;
  const std::vector<std::int64_t> sizes = json_ints(config, key, where, {.min = 1, .max = 64});
  require(sizes.size() == 1, where, std::string(key) + " with one entry",
          nlohmann::json(sizes).dump() + ", which is not supported");
  return sizes.front();
}

void check_fixed_options(const nlohmann::json& config, const ZImageConfig& result,
                         const std::string& where) {
  const std::int64_t frames = only_patch(config, "all_f_patch_size", 1, where);
  require(frames == 1, where, "all_f_patch_size of one frame",
          std::to_string(frames) + ", which is not supported");
  const std::int64_t kv_heads = json_int(
      config, "n_kv_heads", where, {.min = 1, .max = kMaxChannels, .fallback = result.n_heads});
  require(kv_heads == result.n_heads, where,
          "n_kv_heads = n_heads = " + std::to_string(result.n_heads),
          std::to_string(kv_heads) + ", which is not supported");
  require(json_bool(config, "qk_norm", where, true), where, "qk_norm = true",
          "false, which is not supported");
}

void check_rotary(const ZImageConfig& config, const std::string& where) {
  require(config.dim % config.n_heads == 0, where,
          "dim divisible by n_heads = " + std::to_string(config.n_heads),
          std::to_string(config.dim));
  const auto& dims = config.axes_dims;
  const bool even = std::all_of(dims.begin(), dims.end(),
                                [](std::int64_t dim) { return dim > 0 && dim % 2 == 0; });
  const std::int64_t sum = std::accumulate(dims.begin(), dims.end(), std::int64_t{0});
  require(dims.size() == kAxes && even && sum == config.head_dim(), where,
          "axes_dims: three even positive numbers that sum to dim / n_heads = " +
              std::to_string(config.head_dim()),
          nlohmann::json(dims).dump());
  require(config.axes_lens.size() == kAxes, where, "axes_lens: three numbers",
          nlohmann::json(config.axes_lens).dump());
}

}  // namespace

ZImageConfig z_image_config_from_json(const nlohmann::json& config, const std::string& where) {
  check_component(config, kClassName, kKnownOptions, where);
  ZImageConfig result;
  // Absent or null keeps the default.
  const auto read = [&](const char* key, std::int64_t& value, std::int64_t min, std::int64_t max) {
    value = json_int(config, key, where, {.min = min, .max = max, .fallback = value});
  };
  const auto read_number = [&](const char* key, double& value, double min, double max) {
    value = json_number(config, key, where, {.min = min, .max = max, .fallback = value});
  };
  result.patch_size = only_patch(config, "all_patch_size", result.patch_size, where);
  read("in_channels", result.in_channels, 1, kMaxChannels);
  read("dim", result.dim, 2, kMaxChannels);
  read("n_layers", result.n_layers, 0, kMaxLayers);
  read("n_refiner_layers", result.n_refiner_layers, 0, kMaxLayers);
  read("n_heads", result.n_heads, 1, kMaxChannels);
  read("cap_feat_dim", result.cap_feat_dim, 1, kMaxChannels);
  read_number("norm_eps", result.norm_eps, 0, 1);
  read_number("rope_theta", result.rope_theta, 1, 1e9);
  read_number("t_scale", result.t_scale, 0, 1e9);
  if (json_has(config, "axes_dims")) result.axes_dims = json_ints(config, "axes_dims", where);
  if (json_has(config, "axes_lens")) {
    result.axes_lens = json_ints(config, "axes_lens", where, {.min = 1, .max = kMaxPositions});
  }
  check_fixed_options(config, result, where);
  check_rotary(result, where);
  return result;
}

nlohmann::json to_json(const ZImageConfig& config) {
  return {{"_class_name", kClassName},
          {"all_patch_size", {config.patch_size}},
          {"all_f_patch_size", {1}},
          {"in_channels", config.in_channels},
          {"dim", config.dim},
          {"n_layers", config.n_layers},
          {"n_refiner_layers", config.n_refiner_layers},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_heads},
          {"norm_eps", config.norm_eps},
          {"qk_norm", true},
          {"cap_feat_dim", config.cap_feat_dim},
          {"siglip_feat_dim", nullptr},
          {"rope_theta", config.rope_theta},
          {"t_scale", config.t_scale},
          {"axes_dims", config.axes_dims},
          {"axes_lens", config.axes_lens}};
}

}  // namespace rtlynx
