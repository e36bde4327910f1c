// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/apply_lora.h"

#include <string>

#include "layers/linear_form.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

/// Adds `update`, whose `down` reads what the low rank (`down`, `up`, or none) reads.
void append(torch::Tensor& down, torch::Tensor& up, const LowRankUpdate& update,
            const torch::TensorOptions& options) {
  const torch::Tensor more_down = update.down.to(options), more_up = update.up.to(options);
  down = padded_rank(down.defined() ? torch::cat({down, more_down}, 0) : more_down, 0);
  up = padded_rank(up.defined() ? torch::cat({up, more_up}, 1) : more_up, 1);
}

void add_to(SparseLinearImpl& layer, const LowRankUpdate& update) {
  const torch::TensorOptions options = layer.weight.options();
  if (layer.mode() == LinearMode::compensated) {
    Compensation24 values = *layer.compensation();
    LowRankUpdate of_z = update;
    if (!values.transform.is_identity()) {
      of_z.down = values.transform.weight_for_z(update.down.to(options.device()));
    }
    append(values.down, values.up, of_z, options);
    layer.set_compensation(values);
  } else if (layer.mode() == LinearMode::replaced) {
    Replacement values = *layer.replacement();
    append(values.down, values.up, update, options);
    layer.set_replacement(values);
  } else {
    layer.weight.copy_(merged_weight(layer.weight, update));
  }
}

}  // namespace

LowRankUpdates read_loras(const torch::nn::Module& model, const std::vector<ForeignModule>& foreign,
                          std::span<const LoraFile> files, const LoraWarning& on_warning) {
  const LayerNames names(linear_shapes(model), foreign);
  LowRankUpdates sum;
  for (const LoraFile& file : files) {
    add_updates(sum, read_lora(file.path, names, file.strength, on_warning));
  }
  return sum;
}

void apply_updates(torch::nn::Module& model, const LowRankUpdates& updates) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, SparseLinear> layers;
  for (const NamedLinear& item : named_linears(model)) layers.emplace(item.name, item.linear);
  auto parameters = model.named_parameters();
  for (const auto& [name, update] : updates) {
    const auto layer = layers.find(name);
    if (layer != layers.end()) {
      add_to(*layer->second, update);
    } else {
      torch::Tensor& weight = parameters[name + ".weight"];
      weight.copy_(merged_weight(weight, update));
    }
  }
}

}  // namespace rtlynx
