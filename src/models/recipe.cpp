// SPDX-License-Identifier: Apache-2.0
#include "models/recipe.h"

#include <set>
#include <utility>

#include "base/error.h"

namespace rtlynx {
namespace {

template <typename Wanted>
LayerFilter filter(const std::vector<LayerGroup>& groups, const Wanted& wanted) {
  std::set<std::string> names;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) {
      if (wanted(layer)) names.insert(layer.name);
    }
  }
  return [names = std::move(names)](const std::string& layer) { return names.contains(layer); };
}

}  // namespace

std::vector<NamedLinear> named_linears(const torch::nn::Module& model) {
  std::vector<NamedLinear> found;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (auto linear = std::dynamic_pointer_cast<SparseLinearImpl>(item.value())) {
      found.push_back({item.key(), SparseLinear(linear)});
    }
  }
  return found;
}

LayerFilter paper_layers(const std::vector<LayerGroup>& groups) {
  return filter(groups, [](const GroupLayer& layer) { return layer.in_paper; });
}

LayerFilter recipe_from_string(std::string_view name, const std::vector<LayerGroup>& groups) {
  if (name == "paper") return paper_layers(groups);
  if (name == "all") return filter(groups, [](const GroupLayer&) { return true; });
  throw UsageError("recipe: required paper or all, got " + std::string(name));
}

int apply_recipe(const torch::nn::Module& model, const LayerFilter& wanted, LinearMode mode) {
  int changed = 0;
  for (auto& [name, linear] : named_linears(model)) {
    const bool sparse = wanted(name);
    linear->set_mode(sparse ? mode : LinearMode::dense);
    changed += sparse ? 1 : 0;
  }
  return changed;
}

void make_dense(const torch::nn::Module& model) {
  for (auto& [name, linear] : named_linears(model)) linear->set_mode(LinearMode::dense);
}

}  // namespace rtlynx
