// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/parameters.h"
#include "models/vae/vae.h"

namespace rtlynx {

/// The constructor arguments of diffusers' AutoencoderKLQwenImage, with its defaults.
struct AutoencoderKlQwenImageConfig {
  std::int64_t base_dim = 96;
  std::int64_t z_dim = 16;
  std::int64_t num_res_blocks = 2;
  std::vector<std::int64_t> dim_mult = {1, 2, 4, 4};
  std::vector<bool> temperal_downsample = {false, true, true};  ///< spelt as diffusers does
  std::vector<double> latents_mean, latents_std;                ///< z_dim each
};

/// Throws Error, naming `where`, for another class, a value of the wrong type or range, and, by
/// name, every option that this implementation does not have.
AutoencoderKlQwenImageConfig autoencoder_kl_qwen_image_config_from_json(
    const nlohmann::json& config, const std::string& where);

/// Qwen-Image's autoencoder for pictures. The original is causal in time: before the first frame
/// come zeros, so that of every convolution over time only the last tap counts, and the
/// convolutions between frames never run. What is left is exactly two-dimensional.
std::shared_ptr<Vae> make_autoencoder_kl_qwen_image(const AutoencoderKlQwenImageConfig& config,
                                                    const torch::TensorOptions& options);

/// How the original's tensors become those of the two-dimensional model.
StoredTensors qwen_image_vae_tensors(const AutoencoderKlQwenImageConfig& config);

}  // namespace rtlynx
