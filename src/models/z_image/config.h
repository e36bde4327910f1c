// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace rtlynx {

/// The constructor arguments of diffusers' ZImageTransformer2DModel, with its defaults, as far as
/// they are free here: one patch size, one frame, as many heads of k and v as of q, normed.
struct ZImageConfig {
  std::int64_t patch_size = 2;
  std::int64_t in_channels = 16;
  std::int64_t dim = 3840;
  std::int64_t n_layers = 30;
  std::int64_t n_refiner_layers = 2;
  std::int64_t n_heads = 30;
  std::int64_t cap_feat_dim = 2560;
  double norm_eps = 1e-5;
  double rope_theta = 256;
  double t_scale = 1000;
  std::vector<std::int64_t> axes_dims = {32, 48, 48};
  std::vector<std::int64_t> axes_lens = {1024, 512, 512};

  std::int64_t head_dim() const { return dim / n_heads; }
  std::int64_t token_channels() const { return patch_size * patch_size * in_channels; }
  /// Channels between the MLP's Linears, rounded as diffusers does.
  std::int64_t mlp_dim() const {
    return static_cast<std::int64_t>(static_cast<double>(dim) / 3 * 8);
  }
  /// Channels of the time embedding.
  std::int64_t time_dim() const { return dim < 256 ? dim : 256; }
};

/// Reads a `transformer/config.json`. `where` names the file in messages. Throws Error for another
/// class, for a value of the wrong type or range, and, by name, for every option that this
/// implementation does not have.
ZImageConfig z_image_config_from_json(const nlohmann::json& config, const std::string& where);

/// The config.json that diffusers would write.
nlohmann::json to_json(const ZImageConfig& config);

}  // namespace rtlynx
