// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "io/file.h"
#include "models/load_progress.h"

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
/// parameter's dtype and device, piece by piece (tensor_stream.h). Throws Error naming file and
/// tensor, before it reads any, for a missing, cut, unexpected or misshapen tensor, for one that is
/// not floating point, and for weights in a form that is not read; behind the reading for one that
/// is not finite as the parameter's dtype. For a module on the meta device it only checks.
void load_parameters(torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, const StoredTensors& stored = {},
                     const LoadProgress& on_progress = {});

/// What is to be known before a module is made: throws what load_parameters would before it reads,
/// and Error where the parameters do not fit into the free memory of `device`, on which they are
/// going to be, or the buffers of the reading into the host's. `module` is on the meta device; so
/// is `device` where memory does not count.
void check_parameters(const torch::nn::Module& module, torch::Device device,
                      const std::filesystem::path& folder, const std::string& stem,
                      const StoredTensors& stored = {});

/// Writes every parameter of `module` as `dtype` to `<stem>*.safetensors` in `folder`, in shards
/// of at most `max_shard_bytes`. Throws Error, before anything is written, for one that is not
/// finite as `dtype`.
void save_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                     const std::string& stem, torch::ScalarType dtype, std::size_t max_shard_bytes);

/// The same, but the files wait in `files` to be committed, with others that belong to them.
void stage_parameters(const torch::nn::Module& module, const std::filesystem::path& folder,
                      const std::string& stem, torch::ScalarType dtype, std::size_t max_shard_bytes,
                      FileSet& files);

}  // namespace rtlynx
