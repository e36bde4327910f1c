// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace rtlynx {

/// How the tensors of a checkpoint relate to a module's parameters, where they differ.
struct StoredTensors {
  /// What stands before the parameters' names in the file: the first with which a parameter is
  /// found.
  std::vector<std::string> prefixes = {""};
  /// Tensors that the file may hold and the module does not need: names, or beginnings of names
  /// that end in ".", with the prefix or without.
  std::vector<std::string> ignored;
  /// Makes a parameter's value of the stored one; without it they are the same.
  std::function<torch::Tensor(const std::string& name, const torch::Tensor& stored)> convert;
};

/// Fills every parameter of `module` from `<stem>*.safetensors` in `folder`, converted to the
/// parameter's dtype and device. Throws Error naming file and tensor for a missing, unexpected or
/// misshapen tensor and for one that is not floating point.
void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, const StoredTensors& stored = {});

/// Writes every parameter of `module` as `dtype` to `<stem>*.safetensors` in `folder`, in shards
/// of at most `max_shard_bytes`.
void save_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, torch::ScalarType dtype, std::size_t max_shard_bytes);

}  // namespace rtlynx
