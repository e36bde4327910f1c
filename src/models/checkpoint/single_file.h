// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "base/libtorch.h"
#include "models/checkpoint/layer_names.h"

namespace rtlynx {

/// Fills every parameter of a transformer from one .safetensors file (or its shards' index) with
/// foreign or with our own names, with or without "model.diffusion_model." before all of them. FP8
/// weights are multiplied by the scale beside them (scale_weight or weight_scale), if there is one.
/// Throws Error naming file and tensor for a missing, unexpected or misshapen tensor, and for one
/// that is not finite as the parameter's dtype; other models in the same file (text encoders, VAE)
/// are left alone. All names, types, shapes and scales are checked before the first parameter is
/// filled.
void load_single_file(torch::nn::Module& model, const std::filesystem::path& path,
                      const std::vector<ForeignModule>& foreign);

/// The same checks, for a module that may be without weights (device meta).
void check_single_file(const torch::nn::Module& model, const std::filesystem::path& path,
                       const std::vector<ForeignModule>& foreign);

}  // namespace rtlynx
