// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/sparse_linear.h"

namespace rtlynx {

/// A Linear of a model under its checkpoint name, e.g. "transformer_blocks.0.attn.to_q".
struct NamedLinear {
  std::string name;
  SparseLinear linear;
};

/// Every Linear of `model`, in the order of registration.
std::vector<NamedLinear> named_linears(const torch::nn::Module& model);

/// True for the layers that the RT-Lynx paper sparsifies in FLUX.1: q, k, v and the MLP's up and
/// down projections of both streams; a single block's proj_out (attention out and MLP down in one
/// Linear), embedders, modulation and output stay dense (arXiv 2605.26632, "layer choice").
bool in_paper_flux_recipe(const std::string& name);

/// Whether a layer, by name, is to be sparsified.
using LayerFilter = std::function<bool(const std::string& layer)>;

/// The paper's hand-made choices by name: "paper-flux", "paper-z-image" (q, k, v and the MLP's down
/// projection of `layers`, not of the refiners) and "paper-qwen-image" (q, k, v and both MLP
/// projections of both streams). Layers that the paper does not name stay dense. Throws UsageError
/// for any other name.
LayerFilter recipe_from_string(std::string_view name);

/// Sets `mode` on every layer of the recipe and `dense` on all others. Returns how many got `mode`.
int apply_paper_flux_recipe(const torch::nn::Module& model, LinearMode mode);

}  // namespace rtlynx
