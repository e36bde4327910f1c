// SPDX-License-Identifier: Apache-2.0
#include "models/shared_input.h"

#include <utility>

namespace rtlynx {

std::vector<SharedInput> shared_inputs(const torch::nn::Module& model,
                                       const std::vector<LayerGroup>& groups,
                                       const LayerFilter& wanted) {
  std::map<std::string, SparseLinear> linears;
  for (const NamedLinear& item : named_linears(model)) linears.emplace(item.name, item.linear);
  std::vector<SharedInput> inputs;
  for (const LayerGroup& group : groups) {
    SharedInput input{.name = group.name, .order_is_free = group.order_is_free(), .layers = {}};
    for (const GroupLayer& layer : group.layers) {
      if (wanted(layer.name)) input.layers.push_back({layer.name, linears.at(layer.name)});
    }
    if (!input.layers.empty()) inputs.push_back(std::move(input));
  }
  return inputs;
}

std::map<std::string, std::string> input_names(const std::vector<LayerGroup>& groups) {
  std::map<std::string, std::string> names;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) names.emplace(layer.name, group.name);
  }
  return names;
}

}  // namespace rtlynx
