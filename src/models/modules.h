// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "layers/input_group.h"

namespace rtlynx {

/// The Linears and norms of a model by their names in the checkpoint, for its fused path.
class Modules {
 public:
  explicit Modules(const torch::nn::Module& model);

  bool has_linear(const std::string& name) const { return linears_.contains(name); }
  SparseLinear linear(const std::string& name) const { return linears_.at(name); }
  torch::Tensor weight(const std::string& name) const { return parameters_.at(name + ".weight"); }

  /// The Linears with these names behind `block`.
  InputGroup group(const std::string& block, const std::vector<std::string>& names,
                   std::vector<ops::Activation> activations = {}) const;

 private:
  std::map<std::string, SparseLinear> linears_;
  std::map<std::string, torch::Tensor> parameters_;
};

/// Attention of heads that are normed and turned, each [B, S, heads * head_dim], as is the result.
/// `mask` [B, 1, 1, S] bool, the tokens that are attended to; all without one.
torch::Tensor attend_heads(const ops::Heads& heads, std::int64_t head_dim,
                           const torch::Tensor& mask = {});

}  // namespace rtlynx
