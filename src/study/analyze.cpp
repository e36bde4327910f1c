// SPDX-License-Identifier: Apache-2.0
#include "study/analyze.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

#include "base/error.h"
#include "compensate/moments.h"
#include "compensate/second_moment.h"
#include "compensate/weight24.h"
#include "io/json.h"
#include "models/recipe.h"
#include "models/shared_input.h"
#include "ops/ops.h"
#include "rtlynx/version.h"
#include "study/distribution.h"
#include "study/observer_scope.h"
#include "study/velocity_error.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kTreatments = {"weight_magnitude", "weight_wanda",
                                                         "activation_naive", "activation_norm"};

/// The squared errors of one layer under every treatment, by step.
class LayerErrors {
 public:
  LayerErrors(const SparseLinear& linear, const torch::Tensor& moment, int steps)
      : linear_(linear),
        magnitude_(pruned(prune_by_magnitude(linear->weight))),
        wanda_(pruned(prune_by_wanda(linear->weight, moment))) {
    for (auto& by_step : errors_) by_step.resize(static_cast<std::size_t>(steps));
  }

  /// x [n, K].
  void add(const torch::Tensor& x, int step) {
    const torch::Tensor output = x.matmul(linear_->weight.t());
    const double whole = output.square().sum(torch::kFloat64).item<double>();
    const auto [kept, scale] = ops::sparsify24(x, /*norm=*/true);
    const torch::Tensor selected = kept.matmul(linear_->weight.t());
    const std::array<torch::Tensor, kTreatments.size()> outputs = {
        x.matmul(magnitude_.t()), x.matmul(wanda_.t()), selected,
        selected * scale.unsqueeze(1).to(selected.scalar_type())};
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      errors_[i][static_cast<std::size_t>(step)] +=
          SquaredError{.wrong = (outputs[i] - output).square().sum(torch::kFloat64).item<double>(),
                       .whole = whole};
    }
  }

  SquaredError at(std::size_t treatment, std::size_t step) const {
    return errors_[treatment][step];
  }

  Json to_json() const {
    Json report;
    for (std::size_t i = 0; i < kTreatments.size(); ++i) {
      SquaredError total;
      Json by_step = Json::array();
      for (const SquaredError& step : errors_[i]) {
        total += step;
        by_step.push_back(number_or_null(step.relative()));
      }
      report[std::string(kTreatments[i])] = {{"total", number_or_null(total.relative())},
                                             {"by_step", std::move(by_step)}};
    }
    return report;
  }

 private:
  torch::Tensor pruned(const PrunedWeight& weight) const {
    return weight.effective().to(linear_->weight.scalar_type());
  }

  SparseLinear linear_;
  torch::Tensor magnitude_, wanda_;  // [N, K]
  std::array<std::vector<SquaredError>, kTreatments.size()> errors_;
};

// At most `rows` of the tokens of x [..., K], evenly spaced -> [n, K].
torch::Tensor some_rows(const torch::Tensor& x, std::int64_t rows) {
  const torch::Tensor all = x.reshape({-1, x.size(-1)});
  const std::int64_t stride = std::max<std::int64_t>(1, (all.size(0) + rows - 1) / rows);
  return all.slice(/*dim=*/0, /*start=*/0, /*end=*/all.size(0), stride);
}

/// What an input's layer reads in one step of a drawing.
using StepInputCallback =
    std::function<void(const std::string& layer, const torch::Tensor& x, int step)>;

/// A model at work, whose layers' inputs can be seen.
struct ObservedRun {
  const torch::nn::Module& transformer;
  const std::vector<LayerGroup>& groups;
  int steps = 1;
  Json about;  ///< of the model and the drawing, for the report
  /// Draws with every layer dense; the same each time.
  std::function<void(const std::function<bool(const std::string& layer)>& wanted,
                     const StepInputCallback& on_input, const StepCallback& on_step)>
      observe;
};

class Analysis {
 public:
  Analysis(const ObservedRun& run, std::int64_t rows, const StepCallback& on_step)
      : run_(run), rows_(rows), on_step_(on_step), input_of_(input_names(run.groups)) {}

  Json run() {
    const torch::NoGradGuard no_grad;
    const LayerFilter in_paper = paper_layers(run_.groups);
    for (const SharedInput& input : shared_inputs(run_.transformer, run_.groups, in_paper)) {
      first_of_.emplace(input.layers.front().name, input.name);
    }
    // Two passes over the same pictures: Wanda has to know all inputs before its errors are taken.
    sum_inputs();
    for (const auto& [name, linear] : named_linears(run_.transformer)) {
      if (!in_paper(name)) continue;
      const torch::Tensor moment = moments_.at(input_of_.at(name)).second_moment();
      layers_.emplace_back(name, LayerErrors(linear, moment, run_.steps));
      index_[name] = layers_.size() - 1;
      weights_.emplace_back().add(linear->weight);
    }
    observe();
    return describe();
  }

 private:
  void report(int finished, int steps) const {
    if (on_step_) on_step_(finished, steps);
  }

  void sum_inputs() {
    run_.observe([&](const std::string& layer) { return first_of_.contains(layer); },
                 [&](const std::string& layer, const torch::Tensor& x, int) {
                   // Sums made in inference mode could not be used outside of it.
                   const c10::InferenceMode off(false);
                   const torch::NoGradGuard no_grad;
                   moments_[first_of_.at(layer)].add(x);
                 },
                 [&](int finished, int steps) { report(finished, 2 * steps); });
  }

  void observe() {
    run_.observe([&](const std::string& layer) { return index_.contains(layer); },
                 [&](const std::string& layer, const torch::Tensor& x, int step) {
                   const torch::Tensor rows = some_rows(x, rows_);
                   layers_[index_.at(layer)].second.add(rows, step);
                   const auto first = first_of_.find(layer);
                   if (first != first_of_.end()) inputs_[first->second].add(rows);
                 },
                 [&](int finished, int steps) { report(steps + finished, 2 * steps); });
  }

  Json describe() const {
    Json analysis = run_.about;
    analysis["gaussian_kept_energy"] = kGaussianKeptEnergy;
    analysis["edges"] = Distribution::edges();
    analysis["inputs"] = Json::array();
    std::set<std::string> seen;
    for (const auto& [layer, errors] : layers_) {
      const std::string& name = input_of_.at(layer);
      if (!seen.insert(name).second) continue;
      const torch::Tensor moment = moments_.at(name).second_moment();
      analysis["inputs"].push_back({{"name", name},
                                    {"channels", moment.size(0)},
                                    {"tokens", moments_.at(name).tokens},
                                    {"effective_rank", effective_rank(moment)},
                                    {"participation_ratio", participation_ratio(moment)},
                                    {"distribution", inputs_.at(name).to_json()}});
    }
    analysis["layers"] = Json::array();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      analysis["layers"].push_back({{"name", layers_[i].first},
                                    {"input", input_of_.at(layers_[i].first)},
                                    {"distribution", weights_[i].to_json()},
                                    {"errors", layers_[i].second.to_json()}});
    }
    for (std::size_t i = 0; i < kTreatments.size(); ++i) {
      analysis["errors_by_step"][std::string(kTreatments[i])] = errors_by_step(i);
    }
    return analysis;
  }

  // Root mean square over layers.
  Json errors_by_step(std::size_t treatment) const {
    Json errors = Json::array();
    for (std::size_t step = 0; step < static_cast<std::size_t>(run_.steps); ++step) {
      double sum = 0;
      for (const auto& [name, layer] : layers_) {
        const double error = layer.at(treatment, step).relative();
        sum += error * error;
      }
      errors.push_back(number_or_null(std::sqrt(sum / static_cast<double>(layers_.size()))));
    }
    return errors;
  }

  const ObservedRun& run_;
  std::int64_t rows_;
  const StepCallback& on_step_;
  std::map<std::string, std::string> input_of_;
  std::map<std::string, std::string> first_of_;  // the input that a layer shows for its group
  GroupMoments moments_;
  std::vector<std::pair<std::string, LayerErrors>> layers_;
  std::vector<Distribution> weights_;         // of layers_
  std::map<std::string, std::size_t> index_;  // into layers_
  std::map<std::string, Distribution> inputs_;
};

void check_rows(std::int64_t rows) {
  require(rows >= 1, "analyze", "at least one token of each input", std::to_string(rows));
}

}  // namespace

Json analyze(Pipeline& pipeline, const AnalyzeOptions& options, const StepCallback& on_step) {
  check_rows(options.rows);
  const CalibrationRun& run = options.run;
  const ObservedRun observed{
      .transformer = *pipeline.transformer,
      .groups = pipeline.transformer->groups(),
      .steps = run.steps,
      .about = {{"model", pipeline.name},
                {"rtlynx", version()},
                {"prompts", run.prompts},
                {"prompt_seed", run.seed},
                {"steps", run.steps},
                {"guidance", run.guidance},
                {"device", pipeline.device_name()},
                {"dtype", pipeline.dtype_name()}},
      .observe = [&](const auto& wanted, const auto& on_input, const auto& on_finished) {
        int step = 0;
        observe_inputs(
            pipeline, run, wanted,
            [&](const std::string& layer, const torch::Tensor& x) { on_input(layer, x, step); },
            [&](int finished, int all) {
              step = finished % run.steps;
              on_finished(finished, all);
            });
      }};
  return Analysis(observed, options.rows, on_step).run();
}

Json analyze(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
             const SchedulerConfig& scheduler, const DrawingRun& run, std::int64_t rows,
             const StepCallback& on_step) {
  check_rows(rows);
  check_run(model, embeddings, run);
  make_dense(model.module());
  const int passes = static_cast<int>(passes_of(embeddings, run));
  const int of_step = run.guided() ? 2 : 1;
  const torch::Tensor weight = model.module().parameters().front();
  const ObservedRun observed{
      .transformer = model.module(),
      .groups = model.groups(),
      .steps = run.steps,
      .about = {{"model", model.class_name()},
                {"rtlynx", version()},
                {"prompts", embeddings.prompts.size()},
                {"prompt_seed", run.seed},
                {"steps", run.steps},
                {"guidance", run.guidance},
                {"device", c10::DeviceTypeName(weight.device().type(), /*lower_case=*/true)},
                {"dtype", weight.scalar_type() == torch::kBFloat16 ? "bf16" : "fp32"}},
      .observe = [&](const auto& wanted, const auto& on_input, const auto& on_finished) {
        int finished = 0;
        const InputCallback on_any = [&](const std::string& layer, const torch::Tensor& x) {
          on_input(layer, x, finished / of_step % run.steps);
        };
        const ObserverScope scope(model.module(), wanted, on_any);
        draw_steps(model, embeddings, scheduler, run, [&](std::int64_t done) {
          finished = static_cast<int>(done);
          on_finished(finished, passes);
          return true;
        });
      }};
  return Analysis(observed, rows, on_step).run();
}

}  // namespace rtlynx
