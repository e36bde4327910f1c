// SPDX-License-Identifier: Apache-2.0
#include "cli/treatment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>

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

SparseLayers set_mode(torch::nn::Module& transformer, const std::vector<LayerGroup>& groups,
                      const SparseChoice& choice, LinearMode mode) {
  SparseLayers counts;
  std::set<std::string> sparse;
  for (const LayerGroup& group : groups) {
    const bool chosen = !choice || choice(group, {});
    for (const GroupLayer& layer : group.layers) {
      if (!layer.in_paper) continue;
      ++counts.wanted;
      if (chosen) sparse.insert(layer.name);
    }
  }
  counts.sparse = apply_recipe(
      transformer, [&](const std::string& name) { return sparse.contains(name); }, mode);
  return counts;
}

bool has_sparse_input(const LayerCompensation& layer) { return !layer.replacement; }

/// What the group's layers in `compensation` run beside its 2:4 input, or nothing where none has
/// one.
std::optional<SparseForm> form_of(const LayerGroup& group, const ModelCompensation& compensation) {
  std::optional<SparseForm> form;
  for (const GroupLayer& layer : group.layers) {
    const auto found = compensation.layers.find(layer.name);
    if (found == compensation.layers.end() || !has_sparse_input(found->second)) continue;
    const Compensation24& values = found->second.values;
    if (!form) form.emplace();
    form->rank = std::max(form->rank, static_cast<int>(values.rank()));
    if (values.e4m3) form->width = OperandWidth::k8;
  }
  return form;
}

int count_sparse(const ModelCompensation& compensation) {
  return static_cast<int>(
      std::count_if(compensation.layers.begin(), compensation.layers.end(),
                    [](const auto& entry) { return has_sparse_input(entry.second); }));
}

/// Takes the layers out whose group is to stay dense.
SparseLayers leave_out(ModelCompensation& compensation, const std::vector<LayerGroup>& groups,
                       const SparseChoice& choice) {
  SparseLayers counts{.sparse = 0, .wanted = count_sparse(compensation)};
  for (const LayerGroup& group : groups) {
    const std::optional<SparseForm> form = form_of(group, compensation);
    if (!form || !choice || choice(group, *form)) continue;
    for (const GroupLayer& layer : group.layers) {
      const auto found = compensation.layers.find(layer.name);
      if (found == compensation.layers.end() || !has_sparse_input(found->second)) continue;
      compensation.layers.erase(found);
    }
  }
  counts.sparse = count_sparse(compensation);
  return counts;
}

}  // namespace

Treatment of_mode(LinearMode mode) {
  return {
      .name = std::string(to_string(mode)),
      .file = {},
      .set_layers = [mode](torch::nn::Module& transformer, const std::vector<LayerGroup>& groups,
                           const SparseChoice& choice, const LowRankUpdates& updates) {
        SparseLayers layers;
        if (mode == LinearMode::dense) {
          make_dense(transformer);
        } else {
          layers = set_mode(transformer, groups, choice, mode);
        }
        apply_updates(transformer, updates);
        return layers;
      }};
}

Treatment of_file(const std::string& file, bool with_dense) {
  const ModelCompensation compensation = read_compensation(file);
  const std::string name = fmt::format("{} (transform {}, rank {})", compensation.method,
                                       compensation.transform, compensation.rank);
  return {.name = name,
          .file = file,
          .set_layers = [compensation, file, with_dense](
                            torch::nn::Module& transformer, const std::vector<LayerGroup>& groups,
                            const SparseChoice& choice, const LowRankUpdates& updates) {
            ModelCompensation kept = compensation;
            const SparseLayers layers = leave_out(kept, groups, choice);
            // The file is for the weights without updates, and folding multiplies the weights that
            // are drawn with.
            apply_compensation(transformer, kept, file);
            apply_updates(transformer, updates);
            if (with_dense) update_own_weights(transformer, updates);
            fold_transforms(transformer, groups);
            return layers;
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
