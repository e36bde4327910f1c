// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compensate/compensation_file.h"
#include "layers/sparse_linear.h"
#include "models/layer_group.h"

/// What a method's layers cost on paper: multiplications of the recipe's layers, relative to dense
/// ones. Choosing, permuting and scaling are not counted.
namespace rtlynx {

/// Of every layer of the recipe in one forward pass, dense.
std::map<std::string, double> products_by_layer(const std::vector<LayerGroup>& groups,
                                                const StreamTokens& tokens);

/// In one of the modes without a compensation.
double relative_cost(LinearMode mode);

double relative_cost(const std::vector<LayerGroup>& groups, const StreamTokens& tokens,
                     const ModelCompensation& compensation);

/// By layer of the recipe; one that is missing is dense.
using LayerCosts = std::map<std::string, double>;

LayerCosts relative_costs(const std::vector<LayerGroup>& groups, LinearMode mode);
LayerCosts relative_costs(const std::vector<LayerGroup>& groups,
                          const ModelCompensation& compensation);

/// Those of layers that the model leaves dense, whatever the method names, taken out.
LayerCosts without_dense_layers(LayerCosts costs, const torch::nn::Module& model);

double relative_cost(const std::vector<LayerGroup>& groups, const StreamTokens& tokens,
                     const LayerCosts& costs);

}  // namespace rtlynx
