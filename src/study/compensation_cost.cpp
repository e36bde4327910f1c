// SPDX-License-Identifier: Apache-2.0
#include "study/compensation_cost.h"

#include <algorithm>

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
  const std::map<std::string, double> products = products_by_layer(groups, tokens);
  double spent = 0, whole = 0;
  for (const LayerGroup& group : groups) {
    const auto readers = std::count_if(group.layers.begin(), group.layers.end(),
                                       [](const GroupLayer& layer) { return layer.in_paper; });
    for (const GroupLayer& layer : group.layers) {
      if (!layer.in_paper) continue;
      const auto found = compensation.layers.find(layer.name);
      const double relative =
          found == compensation.layers.end()
              ? 1.0
              : relative_flops(found->second, {.in_features = group.channels,
                                               .out_features = layer.outputs,
                                               .input_share = 1.0 / static_cast<double>(readers)});
      spent += relative * products.at(layer.name);
      whole += products.at(layer.name);
    }
  }
  return spent / whole;
}

}  // namespace rtlynx
