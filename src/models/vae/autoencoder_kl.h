// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/vae/vae.h"

namespace rtlynx {

/// The constructor arguments of diffusers' AutoencoderKL that FLUX.1 and Z-Image set.
struct AutoencoderKlConfig {
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  std::int64_t latent_channels = 16;
  std::int64_t layers_per_block = 2;
  std::int64_t norm_num_groups = 32;
  double scaling_factor = 0.3611;
  double shift_factor = 0.1159;
  std::vector<std::int64_t> block_out_channels = {128, 256, 512, 512};
};

/// Throws Error, naming `where`, for another class, a value of the wrong type or range, and, by
/// name, every option that this implementation does not have.
AutoencoderKlConfig autoencoder_kl_config_from_json(const nlohmann::json& config,
                                                    const std::string& where);

/// The autoencoder of FLUX.1 and Z-Image with the arithmetic and tensor names of diffusers'
/// AutoencoderKL. Parameters are allocated with `options` and not initialised.
std::shared_ptr<Vae> make_autoencoder_kl(const AutoencoderKlConfig& config,
                                         const torch::TensorOptions& options);

}  // namespace rtlynx
