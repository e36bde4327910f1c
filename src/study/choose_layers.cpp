// SPDX-License-Identifier: Apache-2.0
#include "study/choose_layers.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "models/recipe.h"
#include "study/knapsack.h"

namespace rtlynx {
namespace {

using Works = std::map<std::string, LayerWork>;

void check(const LayerBudget& budget, const DenseTrajectory& trajectory) {
  const bool possible =
      budget.kind == LayerBudget::Kind::equal || (budget.limit > 0 && budget.limit <= 1);
  if (!possible) {
    throw UsageError("budget: required more than 0 and at most 1, got " +
                     std::to_string(budget.limit));
  }
  if (budget.pictures < 1) {
    throw UsageError("pictures: required at least 1 at once, got " +
                     std::to_string(budget.pictures));
  }
  require(!trajectory.records.empty(), "choose_layers", "a trajectory", "an empty one");
}

Works work_of(Pipeline& pipeline, const LayerCandidates& candidates,
              const DenseTrajectory& trajectory, int pictures) {
  Works works = layer_work(pipeline, trajectory, pictures);
  std::map<std::string, int> readers;
  for (const auto& [name, layer] : candidates.base.layers) ++readers[layer.input];
  for (const auto& [name, layer] : candidates.base.layers) {
    works.at(name).input_share = 1.0 / readers[layer.input];
  }
  return works;
}

std::string number(double value, int decimals) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value;
  return text.str();
}

std::string describe_cost(CostMeasure measure, const LayerCost& cost, const LayerCost& dense) {
  if (!cost.value) return "no kernel: " + cost.source;
  if (measure == CostMeasure::multiplications) {
    return number(*cost.value / *dense.value, 2) + " of its multiplications";
  }
  return number(*cost.value, 1) + " us, dense " + number(*dense.value, 1) + " (" + cost.source +
         ")";
}

/// Shares of the cost of all Linears.
class Costs {
 public:
  Costs(CostMeasure measure, Works works) : measure_(measure), works_(std::move(works)) {
    for (const auto& [name, work] : works_) whole_ += *dense_cost(measure, work).value;
  }

  MeasuredOption price(const std::string& name, const LayerOption& option) const {
    const LayerWork& work = works_.at(name);
    const LayerCost dense = dense_cost(measure_, work);
    const LayerCost cost = layer_cost(measure_, work, option.layer);
    return {.method = option.layer.method,
            .kind = std::string(kind_of(option.layer)),
            .local_error = option.local_error,
            .saved = (*dense.value - cost.value.value_or(*dense.value)) / whole_,
            .cost = describe_cost(measure_, cost, dense)};
  }

 private:
  CostMeasure measure_;
  Works works_;
  double whole_ = 0;
};

// What an H200 would gain decides, if it gains anything.
std::pair<CostMeasure, std::string> choose_measure(const LayerBudget& budget,
                                                   const LayerCandidates& candidates,
                                                   const Works& works) {
  if (budget.measure) return {*budget.measure, "as asked for"};
  const std::string setting = "drawing " + std::to_string(budget.pictures) + " at once on an H200";
  const Costs times(CostMeasure::time, works);
  std::string example;
  for (const auto& [name, options] : candidates.options) {
    const MeasuredOption option = times.price(name, options.front());
    if (option.saved > 0) return {CostMeasure::time, "sparse layers save some, " + setting};
    if (example.empty()) example = name + ", " + option.cost;
  }
  return {CostMeasure::multiplications, "no layer would save time, " + setting + ": " + example};
}

class Chooser {
 public:
  Chooser(Pipeline& pipeline, const LayerCandidates& candidates, const DenseTrajectory& trajectory)
      : pipeline_(pipeline), candidates_(candidates), trajectory_(trajectory) {
    apply_compensation(*pipeline.transformer, candidates.base, "choose_layers");
    for (auto& [name, linear] : named_linears(*pipeline.transformer)) {
      linear->set_mode(LinearMode::dense);
      if (candidates.options.contains(name)) linears_.emplace(name, linear);
    }
  }

  std::vector<LayerChoice> measure_alone(const Costs& costs,
                                         const std::function<void(std::size_t)>& measured) {
    std::vector<LayerChoice> layers;
    for (auto& [name, linear] : linears_) {
      LayerChoice layer{.name = name};
      for (const LayerOption& option : candidates_.options.at(name)) {
        layer.options.push_back(costs.price(name, option));
        if (layer.options.back().saved <= 0) continue;
        apply_layer(linear, option.layer);
        layer.options.back().velocity_error = error();
      }
      linear->set_mode(LinearMode::dense);
      layers.push_back(std::move(layer));
      if (measured) measured(layers.size());
    }
    return layers;
  }

  double error() const { return measure_velocity_error(pipeline_, trajectory_).relative(); }

  void apply(const std::vector<LayerChoice>& layers,
             const std::vector<std::optional<std::size_t>>& taken) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      SparseLinear& linear = linears_.at(layers[i].name);
      if (taken[i]) {
        apply_layer(linear, layer_of(layers[i], *taken[i]));
      } else {
        linear->set_mode(LinearMode::dense);
      }
    }
  }

  const LayerCompensation& layer_of(const LayerChoice& layer, std::size_t option) const {
    return candidates_.options.at(layer.name)[option].layer;
  }

 private:
  Pipeline& pipeline_;
  const LayerCandidates& candidates_;
  const DenseTrajectory& trajectory_;
  std::map<std::string, SparseLinear> linears_;
};

KnapsackItems items_of(const std::vector<LayerChoice>& layers) {
  std::map<std::string, std::size_t> methods;
  KnapsackItems items;
  for (const LayerChoice& layer : layers) {
    items.emplace_back();
    for (const MeasuredOption& option : layer.options) {
      const std::size_t method = methods.emplace(option.method, methods.size()).first->second;
      items.back().push_back({.method = method,
                              .error = option.velocity_error * option.velocity_error,
                              .saved = option.saved});
    }
  }
  return items;
}

// A layer's first step is its best bargain; those without any come last.
void sort_by_price(std::vector<LayerChoice>& layers) {
  std::vector<double> prices(layers.size(), std::numeric_limits<double>::infinity());
  for (const KnapsackStep& step : bargains(items_of(layers))) {
    if (!step.previous) prices[step.item] = step.price();
  }
  std::vector<std::size_t> order(layers.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return prices[a] < prices[b]; });
  std::vector<LayerChoice> sorted;
  for (const std::size_t i : order) sorted.push_back(std::move(layers[i]));
  layers = std::move(sorted);
}

// What sparse activations in every layer save where they save anything.
double saved_by_base(const LayerCandidates& candidates, const Costs& costs) {
  double saved = 0;
  for (const auto& [name, options] : candidates.options) {
    saved += std::max(0.0, costs.price(name, options.front()).saved);
  }
  return saved;
}

KnapsackPlan make_plan(const KnapsackItems& items, const LayerBudget& budget, double base_saved) {
  if (budget.kind == LayerBudget::Kind::error) {
    return mix_within_error(items, budget.limit * budget.limit);
  }
  const bool equal = budget.kind == LayerBudget::Kind::equal;
  const std::optional<KnapsackPlan> plan =
      mix_until_saved(items, equal ? base_saved : 1 - budget.limit);
  if (!plan) {
    double most = 0;
    for (const KnapsackStep& step : bargains(items)) most += step.saved;
    throw UsageError("budget: required a cost of at least " + number(1 - most, 4) +
                     " of dense, which all layers together reach, got " + number(budget.limit, 4));
  }
  return *plan;
}

/// Why a layer does what it does.
std::string reason_of(const LayerChoice& layer, bool planned, const LayerBudget& budget) {
  if (layer.chosen) return "a better bargain than those left dense";
  const bool saves = std::any_of(layer.options.begin(), layer.options.end(),
                                 [](const MeasuredOption& option) { return option.saved > 0; });
  if (!saves) return "saves nothing";
  if (planned) return "given up: together they broke the budget";
  return budget.kind == LayerBudget::Kind::error ? "past the budget's error"
                                                 : "not needed for the budget";
}

void describe(LayerChoice& layer, std::optional<std::size_t> taken, bool planned,
              const LayerBudget& budget) {
  layer.chosen = taken.has_value();
  // Of a dense layer the first option says what it would have been.
  const MeasuredOption& shown = layer.options[taken.value_or(0)];
  if (taken) layer.method = shown.method;
  layer.velocity_error = shown.velocity_error;
  layer.saved = shown.saved;
  layer.why =
      reason_of(layer, planned, budget) + "; " + (taken ? "" : shown.method + ": ") + shown.cost;
}

void take_compensation(LayerChoices& choices, const Chooser& chooser, const KnapsackPlan& plan) {
  ModelCompensation& made = choices.compensation;
  const auto taken = plan.taken(choices.layers.size());
  made.layers.clear();
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i]) continue;
    const LayerCompensation& layer = chooser.layer_of(choices.layers[i], *taken[i]);
    made.layers.emplace(choices.layers[i].name, layer);
    if (!layer.replacement) continue;
    made.method = "mixed";
    if (layer.replacement->sparse) made.rank = std::max(made.rank, layer.replacement->rank());
  }
}

}  // namespace

LayerCandidates candidates_of(const CalibrateResult& result) {
  LayerCandidates candidates{.base = result.compensation, .options = {}};
  for (const CalibratedLayer& layer : result.layers) {
    std::vector<LayerOption>& options = candidates.options[layer.name];
    LayerCompensation& base = candidates.base.layers.at(layer.name);
    base.method = result.compensation.method;
    options.push_back({.layer = base, .local_error = layer.solution.error});
    options.insert(options.end(), layer.rivals.begin(), layer.rivals.end());
  }
  return candidates;
}

DenseTrajectory choice_trajectory(Pipeline& pipeline, CalibrationRun run, int prompts, int steps) {
  run.prompts = std::min(run.prompts, prompts);
  run.steps = std::min(run.steps, steps);
  run.seed += 1;
  GenerateRequest request = calibration_request(run);
  request.width = request.height = pipeline.trained_size;
  make_dense(*pipeline.transformer);
  return record_trajectory(pipeline, request, run.batch);
}

LayerChoices choose_layers(Pipeline& pipeline, const LayerCandidates& candidates,
                           const DenseTrajectory& trajectory, const LayerBudget& budget,
                           const std::function<void(std::size_t)>& measured) {
  check(budget, trajectory);
  Chooser chooser(pipeline, candidates, trajectory);
  const Works works = work_of(pipeline, candidates, trajectory, budget.pictures);
  LayerChoices choices{.compensation = candidates.base};
  std::tie(choices.measure, choices.measure_reason) = choose_measure(budget, candidates, works);
  const Costs costs(choices.measure, works);
  choices.layers = chooser.measure_alone(costs, measured);
  sort_by_price(choices.layers);
  const std::size_t count = choices.layers.size();
  KnapsackPlan plan = make_plan(items_of(choices.layers), budget, saved_by_base(candidates, costs));
  const auto planned = plan.taken(count);
  for (;;) {
    chooser.apply(choices.layers, plan.taken(count));
    choices.velocity_error = chooser.error();
    const bool kept =
        budget.kind != LayerBudget::Kind::error || choices.velocity_error <= budget.limit;
    if (kept || plan.steps.empty()) break;
    plan.undo();
  }
  const auto taken = plan.taken(count);
  for (std::size_t i = 0; i < count; ++i) {
    describe(choices.layers[i], taken[i], planned[i].has_value(), budget);
  }
  choices.summed_error = std::sqrt(std::max(0.0, plan.error));
  choices.relative_cost = 1 - plan.saved;
  take_compensation(choices, chooser, plan);
  return choices;
}

nlohmann::ordered_json to_json(const LayerChoices& choices) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerChoice& layer : choices.layers) {
    nlohmann::ordered_json options = nlohmann::ordered_json::array();
    for (const MeasuredOption& option : layer.options) {
      options.push_back({{"method", option.method},
                         {"kind", option.kind},
                         {"local_error", option.local_error},
                         {"velocity_error", option.velocity_error},
                         {"saved", option.saved},
                         {"cost", option.cost}});
    }
    layers.push_back({{"name", layer.name},
                      {"method", layer.method},
                      {"velocity_error", layer.velocity_error},
                      {"saved", layer.saved},
                      {"chosen", layer.chosen},
                      {"why", layer.why},
                      {"options", std::move(options)}});
  }
  return {{"cost", to_string(choices.measure)},       {"cost_reason", choices.measure_reason},
          {"velocity_error", choices.velocity_error}, {"summed_error", choices.summed_error},
          {"relative_cost", choices.relative_cost},   {"layers", layers}};
}

}  // namespace rtlynx
