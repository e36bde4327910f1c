// SPDX-License-Identifier: Apache-2.0
#include "study/compensation_cost.h"

#include <algorithm>

#include "models/recipe.h"
#include "study/layer_cost.h"

namespace rtlynx {

std::map<std::string, double> products_by_layer(const std::vector<LayerGroup>& groups,
                                                const StreamTokens& tokens) {
  std::map<std::string, double> products;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      if (!layer.in_paper) continue;
      products[layer.name] = static_cast<double>(tokens.of(group.stream)) *
                             static_cast<double>(group.channels * layer.outputs);
    }
  }
  return products;
}

double relative_cost(LinearMode mode) { return mode == LinearMode::dense ? 1.0 : 0.5; }

double relative_cost(const std::vector<LayerGroup>& groups, const StreamTokens& tokens,
                     const ModelCompensation& compensation) {
  return relative_cost(groups, tokens, relative_costs(groups, compensation));
}

LayerCosts relative_costs(const std::vector<LayerGroup>& groups, LinearMode mode) {
  LayerCosts costs;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      if (layer.in_paper) costs[layer.name] = relative_cost(mode);
    }
  }
  return costs;
}

LayerCosts relative_costs(const std::vector<LayerGroup>& groups,
                          const ModelCompensation& compensation) {
  LayerCosts costs;
  for (const LayerGroup& group : groups) {
    const auto readers = std::count_if(group.layers.begin(), group.layers.end(),
                                       [](const GroupLayer& layer) { return layer.in_paper; });
    for (const GroupLayer& layer : group.layers) {
      const auto found = compensation.layers.find(layer.name);
      if (!layer.in_paper || found == compensation.layers.end()) continue;
      costs[layer.name] =
          relative_flops(found->second, {.in_features = group.channels,
                                         .out_features = layer.outputs,
                                         .input_share = 1.0 / static_cast<double>(readers)});
    }
  }
  return costs;
}

LayerCosts without_dense_layers(LayerCosts costs, const torch::nn::Module& model) {
  for (const NamedLinear& layer : named_linears(model)) {
    if (layer.linear->mode() == LinearMode::dense) costs.erase(layer.name);
  }
  return costs;
}

double relative_cost(const std::vector<LayerGroup>& groups, const StreamTokens& tokens,
                     const LayerCosts& costs) {
  double spent = 0, whole = 0;
  for (const auto& [name, products] : products_by_layer(groups, tokens)) {
    const auto found = costs.find(name);
    spent += (found == costs.end() ? 1.0 : found->second) * products;
    whole += products;
  }
  return spent / whole;
}

}  // namespace rtlynx
