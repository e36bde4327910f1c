// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <string>

namespace rtlynx {

/// Fills every parameter of `module` from `<stem>*.safetensors` in `folder`, converted to the
/// parameter's dtype and device. Throws Error naming file and tensor for a missing, unexpected or
/// misshapen tensor and for one that is not floating point.
void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem);

/// Writes every parameter of `module` as `dtype` to `<stem>*.safetensors` in `folder`, in shards
/// of at most `max_shard_bytes`.
void save_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, torch::ScalarType dtype, std::size_t max_shard_bytes);

}  // namespace rtlynx
