// SPDX-License-Identifier: Apache-2.0
#include "models/modules.h"

#include <optional>
#include <utility>

#include "models/recipe.h"

namespace rtlynx {

Modules::Modules(const torch::nn::Module& model) {
  for (const NamedLinear& item : named_linears(model)) linears_.emplace(item.name, item.linear);
  for (const auto& item : model.named_parameters()) parameters_.emplace(item.key(), item.value());
}

InputGroup Modules::group(const std::string& block, const std::vector<std::string>& names,
                          std::vector<ops::Activation> activations) const {
  std::vector<SparseLinear> layers;
  for (const std::string& name : names) layers.push_back(linear(block + name));
  return InputGroup(std::move(layers), std::move(activations));
}

torch::Tensor attend_heads(const ops::Heads& heads, std::int64_t head_dim,
                           const torch::Tensor& mask) {
  const auto split = [&](const torch::Tensor& x) {
    return x.unflatten(-1, {-1, head_dim}).transpose(1, 2);  // [B, heads, S, head_dim]
  };
  const std::optional<torch::Tensor> attended = mask.defined() ? std::optional(mask) : std::nullopt;
  return torch::scaled_dot_product_attention(split(heads.q), split(heads.k), split(heads.v),
                                             attended)
      .transpose(1, 2)
      .flatten(2);
}

}  // namespace rtlynx
