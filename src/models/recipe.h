// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/sparse_linear.h"
#include "models/layer_group.h"

namespace rtlynx {

/// A Linear of a model under its checkpoint name, e.g. "transformer_blocks.0.attn.to_q".
struct NamedLinear {
  std::string name;
  SparseLinear linear;
};

/// Every Linear of `model`, in the order of registration.
std::vector<NamedLinear> named_linears(const torch::nn::Module& model);

/// Whether a layer, by name, is to be sparsified.
using LayerFilter = std::function<bool(const std::string& layer)>;

/// The layers that the RT-Lynx paper sparsifies, as the family's groups say.
LayerFilter paper_layers(const std::vector<LayerGroup>& groups);

/// A choice of layers by name: "paper", or "all" that are in a group. Throws UsageError for any
/// other name.
LayerFilter recipe_from_string(std::string_view name, const std::vector<LayerGroup>& groups);

/// Sets `mode` on every layer that is wanted and `dense` on all others. Returns how many got
/// `mode`.
int apply_recipe(const torch::nn::Module& model, const LayerFilter& wanted, LinearMode mode);

/// Makes every layer dense.
void make_dense(const torch::nn::Module& model);

}  // namespace rtlynx
