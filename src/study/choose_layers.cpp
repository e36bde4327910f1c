// SPDX-License-Identifier: Apache-2.0
#include "study/choose_layers.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/error.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

/// Multiplications of every Linear of the model on one record of the trajectory.
std::map<std::string, double> count_multiplications(Pipeline& pipeline,
                                                    const DenseTrajectory& trajectory) {
  std::map<std::string, double> counts;
  std::vector<NamedLinear> linears = named_linears(*pipeline.transformer);
  for (auto& [name, linear] : linears) {
    linear->set_observer(
        [&, layer = name, weights = linear->weight.numel()](const torch::Tensor& x) {
          const std::int64_t tokens = x.numel() / x.size(-1);
          counts[layer] += static_cast<double>(tokens) * static_cast<double>(weights);
        });
  }
  const torch::InferenceMode inference;
  pipeline.transformer(trajectory.records.front().inputs);
  for (auto& [name, linear] : linears) linear->set_observer({});
  return counts;
}

void check(const LayerBudget& budget, const DenseTrajectory& trajectory) {
  const bool possible = budget.limit > 0 && budget.limit <= 1;
  if (!possible) {
    throw UsageError("budget: required more than 0 and at most 1, got " +
                     std::to_string(budget.limit));
  }
  require(!trajectory.records.empty(), "choose_layers", "a trajectory", "an empty one");
}

class Chooser {
 public:
  Chooser(Pipeline& pipeline, const ModelCompensation& compensation,
          const DenseTrajectory& trajectory)
      : pipeline_(pipeline), compensation_(compensation), trajectory_(trajectory) {
    apply_compensation(*pipeline.transformer, compensation, "choose_layers");
    for (const auto& [name, linear] : named_linears(*pipeline.transformer)) {
      if (compensation.layers.contains(name)) linears_.emplace(name, linear);
    }
    set_all(LinearMode::dense);
  }

  std::vector<LayerChoice> measure_alone(const std::function<void(std::size_t)>& measured) {
    const std::map<std::string, double> counts = count_multiplications(pipeline_, trajectory_);
    double whole = 0;
    for (const auto& [name, count] : counts) whole += count;
    std::map<std::string, int> layers_of_input;
    for (const auto& [name, layer] : compensation_.layers) ++layers_of_input[layer.input];
    std::vector<LayerChoice> candidates;
    for (auto& [name, linear] : linears_) {
      const LayerCompensation& layer = compensation_.layers.at(name);
      const double cost =
          relative_flops(layer.values, linear->in_features(), linear->out_features(),
                         1.0 / layers_of_input[layer.input]);
      linear->set_mode(LinearMode::compensated);
      candidates.push_back(
          {.name = name, .velocity_error = error(), .saved = (1 - cost) * counts.at(name) / whole});
      linear->set_mode(LinearMode::dense);
      if (measured) measured(candidates.size());
    }
    return candidates;
  }

  double error() const { return measure_velocity_error(pipeline_, trajectory_).relative(); }

  void apply(const std::vector<LayerChoice>& layers) {
    for (const LayerChoice& layer : layers) {
      linears_.at(layer.name)->set_mode(layer.chosen ? LinearMode::compensated : LinearMode::dense);
    }
  }

 private:
  void set_all(LinearMode mode) {
    for (auto& [name, linear] : linears_) linear->set_mode(mode);
  }

  Pipeline& pipeline_;
  const ModelCompensation& compensation_;
  const DenseTrajectory& trajectory_;
  std::map<std::string, SparseLinear> linears_;
};

// Layers that save nothing come last.
double price(const LayerChoice& layer) {
  return layer.saved > 0 ? layer.velocity_error * layer.velocity_error / layer.saved
                         : std::numeric_limits<double>::infinity();
}

void take_within_error(std::vector<LayerChoice>& layers, double limit) {
  double squares = 0;
  for (LayerChoice& layer : layers) {
    squares += layer.velocity_error * layer.velocity_error;
    layer.chosen = layer.saved > 0 && squares <= limit * limit;
    if (!layer.chosen) return;
  }
}

void take_until_speed(std::vector<LayerChoice>& layers, double limit) {
  double left = 1;
  for (LayerChoice& layer : layers) {
    if (left <= limit || layer.saved <= 0) break;
    layer.chosen = true;
    left -= layer.saved;
  }
  if (left > limit) {
    throw UsageError("budget: required multiplications of at least " + std::to_string(left) +
                     " of dense, which all layers together reach, got " + std::to_string(limit));
  }
}

// Returns the error of what is left.
double give_up_until(Chooser& chooser, std::vector<LayerChoice>& layers, double limit) {
  for (;;) {
    chooser.apply(layers);
    const double together = chooser.error();
    const auto last = std::find_if(layers.rbegin(), layers.rend(),
                                   [](const LayerChoice& layer) { return layer.chosen; });
    if (together <= limit || last == layers.rend()) return together;
    last->chosen = false;
  }
}

}  // namespace

double relative_flops(const Compensation24& values, std::int64_t in_features,
                      std::int64_t out_features, double share) {
  const auto k = static_cast<double>(in_features), n = static_cast<double>(out_features);
  const double low_rank = static_cast<double>(values.rank()) * (k + n);
  const torch::Tensor& blocks = values.transform.blocks;
  const double transform = blocks.defined() ? share * k * static_cast<double>(blocks.size(1)) : 0.0;
  return 0.5 + (low_rank + transform) / (k * n);
}

LayerChoices choose_layers(Pipeline& pipeline, const ModelCompensation& compensation,
                           const DenseTrajectory& trajectory, const LayerBudget& budget,
                           const std::function<void(std::size_t)>& measured) {
  check(budget, trajectory);
  Chooser chooser(pipeline, compensation, trajectory);
  LayerChoices choices{.layers = chooser.measure_alone(measured), .compensation = compensation};
  std::stable_sort(choices.layers.begin(), choices.layers.end(),
                   [](const auto& a, const auto& b) { return price(a) < price(b); });
  const bool by_error = budget.kind == LayerBudget::Kind::error;
  if (by_error) {
    take_within_error(choices.layers, budget.limit);
  } else {
    take_until_speed(choices.layers, budget.limit);
  }
  choices.velocity_error = give_up_until(
      chooser, choices.layers, by_error ? budget.limit : std::numeric_limits<double>::infinity());
  for (const LayerChoice& layer : choices.layers) {
    if (layer.chosen) {
      choices.relative_flops -= layer.saved;
    } else {
      choices.compensation.layers.erase(layer.name);
    }
  }
  return choices;
}

nlohmann::ordered_json to_json(const LayerChoices& choices) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerChoice& layer : choices.layers) {
    layers.push_back({{"name", layer.name},
                      {"velocity_error", layer.velocity_error},
                      {"saved", layer.saved},
                      {"chosen", layer.chosen}});
  }
  return {{"velocity_error", choices.velocity_error},
          {"relative_flops", choices.relative_flops},
          {"layers", layers}};
}

}  // namespace rtlynx
