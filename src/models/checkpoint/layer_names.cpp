// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/layer_names.h"

#include <algorithm>
#include <array>
#include <optional>

namespace rtlynx {
namespace {

constexpr std::array<std::string_view, 5> kPrefixes = {
    "base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet."};
constexpr std::array<std::string_view, 2> kUnderscoredPrefixes = {"lora_unet_",
                                                                  "lora_transformer_"};

std::string underscored(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

/// A module's target, if all its parts are layers of the model.
std::optional<LoraTarget> target_of(const ForeignModule& module,
                                    const std::map<std::string, LinearShape>& layers) {
  LoraTarget target{.halves_swapped = module.halves_swapped};
  std::int64_t row = 0;
  for (const std::string& part : module.parts) {
    const auto layer = layers.find(part);
    if (layer == layers.end()) return std::nullopt;
    target.parts.push_back({.layer = layer->second, .first_row = row});
    row += layer->second.out;
  }
  return target;
}

}  // namespace

std::vector<LinearShape> linear_shapes(const torch::nn::Module& model) {
  constexpr std::string_view kEnding = ".weight";
  std::vector<LinearShape> shapes;
  for (const auto& item : model.named_parameters()) {
    const std::string& name = item.key();
    if (!name.ends_with(kEnding) || item.value().dim() != 2) continue;
    shapes.push_back({.name = name.substr(0, name.size() - kEnding.size()),
                      .out = item.value().size(0),
                      .in = item.value().size(1)});
  }
  return shapes;
}

LayerNames::LayerNames(const std::vector<LinearShape>& layers,
                       const std::vector<ForeignModule>& foreign) {
  std::map<std::string, LinearShape> by_name;
  for (const LinearShape& layer : layers) {
    by_name[layer.name] = layer;
    dotted_[layer.name] = {.parts = {{.layer = layer}}};
  }
  for (const ForeignModule& module : foreign) {
    if (const auto target = target_of(module, by_name)) dotted_.emplace(module.name, *target);
  }
  for (const auto& [name, target] : dotted_) underscored_.emplace(underscored(name), target);
}

const LoraTarget* LayerNames::find(std::string_view name) const {
  for (const std::string_view prefix : kUnderscoredPrefixes) {
    if (!name.starts_with(prefix)) continue;
    const auto found = underscored_.find(name.substr(prefix.size()));
    return found == underscored_.end() ? nullptr : &found->second;
  }
  for (const std::string_view prefix : kPrefixes) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  const auto found = dotted_.find(name);
  return found == dotted_.end() ? nullptr : &found->second;
}

}  // namespace rtlynx
