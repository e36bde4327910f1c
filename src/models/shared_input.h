// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/layer_group.h"
#include "models/recipe.h"

namespace rtlynx {

/// A group of a model's layers: those read one tensor, and share its statistics and its transform.
struct SharedInput {
  std::string name;  // the group's
  bool order_is_free = false;
  std::vector<NamedLinear> layers;

  std::int64_t channels() const { return layers.front().linear->in_features(); }
};

/// The layers of `model` that are `wanted`, by group, in the groups' order. Groups without one are
/// left out.
std::vector<SharedInput> shared_inputs(const torch::nn::Module& model,
                                       const std::vector<LayerGroup>& groups,
                                       const LayerFilter& wanted);

/// The group's name by that of each of its layers.
std::map<std::string, std::string> input_names(const std::vector<LayerGroup>& groups);

}  // namespace rtlynx
