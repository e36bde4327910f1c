// SPDX-License-Identifier: Apache-2.0
#include "cli/treatment.h"

#include <fmt/format.h>

#include <cstddef>

#include "compensate/compensation_file.h"
#include "compensate/fold_transform.h"
#include "models/checkpoint/apply_lora.h"
#include "models/recipe.h"

namespace rtlynx::cli {
namespace {

/// Of layers whose weight apply_updates left as it was. A compensation that reads it gets a copy
/// without the update, which its low rank has.
void update_own_weights(const torch::nn::Module& transformer, const LowRankUpdates& updates) {
  const torch::NoGradGuard no_grad;
  for (NamedLinear& layer : named_linears(transformer)) {
    const auto update = updates.find(layer.name);
    if (update == updates.end()) continue;
    SparseLinear& linear = layer.linear;
    if (linear->mode() == LinearMode::compensated) {
      Compensation24 values = *linear->compensation();
      if (!values.weight.defined()) {
        values.weight = linear->weight.clone();
        linear->set_compensation(values);
      }
    } else if (linear->mode() != LinearMode::replaced) {
      continue;
    }
    linear->weight.copy_(merged_weight(linear->weight, update->second));
  }
}

}  // namespace

Treatment of_mode(LinearMode mode) {
  return {
      .name = std::string(to_string(mode)),
      .set_layers = [mode](torch::nn::Module& transformer, const std::vector<LayerGroup>& groups,
                           const LowRankUpdates& updates) {
        apply_recipe(transformer, paper_layers(groups), mode);
        apply_updates(transformer, updates);
      }};
}

Treatment of_file(const std::string& file, bool with_dense) {
  const ModelCompensation compensation = read_compensation(file);
  const std::string name = fmt::format("{} (transform {}, rank {})", compensation.method,
                                       compensation.transform, compensation.rank);
  return {.name = name,
          .set_layers = [compensation, file, with_dense](torch::nn::Module& transformer,
                                                         const std::vector<LayerGroup>& groups,
                                                         const LowRankUpdates& updates) {
            // The file is for the weights without updates, and folding multiplies the weights that
            // are drawn with.
            apply_compensation(transformer, compensation, file);
            apply_updates(transformer, updates);
            if (with_dense) update_own_weights(transformer, updates);
            fold_transforms(transformer, groups);
          }};
}

LayerModes::LayerModes(const torch::nn::Module& transformer) {
  for (const NamedLinear& layer : named_linears(transformer)) {
    modes_.push_back(layer.linear->mode());
  }
}

void LayerModes::restore(const torch::nn::Module& transformer) const {
  std::size_t i = 0;
  for (NamedLinear& layer : named_linears(transformer)) layer.linear->set_mode(modes_[i++]);
}

}  // namespace rtlynx::cli
