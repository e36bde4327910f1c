// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compensate/compensation_file.h"
#include "study/calibrate.h"
#include "study/layer_cost.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// Up to where layers are made cheaper, and how cost is counted.
struct LayerBudget {
  enum class Kind {
    error,  ///< as many as keep the velocity's relative error at most `limit`
    speed,  ///< as few as bring the cost of all Linears to at most `limit` of dense
    equal,  ///< as few as cost no more than sparse activations in every layer do
  };
  Kind kind = Kind::error;
  double limit = 0.05;  ///< not of `equal`
  /// Without, time if an H200 would save any with sparse activations, else multiplications.
  std::optional<CostMeasure> measure;
  int pictures = 1;  ///< drawn at once, on which the time depends
};

/// What the layers may do besides dense.
struct LayerCandidates {
  ModelCompensation base;                                   ///< sparse activations in every layer
  std::map<std::string, std::vector<LayerOption>> options;  ///< by layer: that, and rivals
};

/// Of a finished calibration: with its rivals where options.rivals named some.
LayerCandidates candidates_of(const CalibrateResult& result);

/// An option, measured alone: all other layers dense.
struct MeasuredOption {
  std::string method;
  std::string kind;           ///< kind_of
  double local_error = 0;     ///< of the layer's output, relative, over the calibration's tokens
  double velocity_error = 0;  ///< relative, on the trajectory; 0 where nothing is saved
  double saved = 0;           ///< of the cost of all Linears, as a share
  std::string cost;           ///< what it costs, beside dense, and where the figures are from
};

/// A layer, what it does and why.
struct LayerChoice {
  std::string name;
  std::string method = "dense";
  double velocity_error = 0;  ///< of that alone; where dense, of what `why` says it could have done
  double saved = 0;           ///< likewise
  bool chosen = false;        ///< not dense
  std::string why;
  std::vector<MeasuredOption> options;  ///< as LayerCandidates has them
};

struct LayerChoices {
  std::vector<LayerChoice> layers;  ///< the best bargain first
  CostMeasure measure = CostMeasure::multiplications;
  std::string measure_reason;
  double velocity_error = 0;       ///< of the chosen together, measured
  double summed_error = 0;         ///< root of the sum of their squared errors alone
  double relative_cost = 1;        ///< of all Linears, relative to dense
  ModelCompensation compensation;  ///< with the chosen layers alone
};

/// The dense model on few pictures of the run, by other captions than the statistics are of: enough
/// to rank layers, since every velocity has thousands of values.
DenseTrajectory choice_trajectory(Pipeline& pipeline, CalibrationRun run, int prompts = 4,
                                  int steps = 7);

/// Measures the velocity error of every option that saves anything alone, and takes them up by
/// squared error per saved cost until the budget is reached (study/knapsack.h): errors of single
/// layers add up in square, nearly. The sum is no larger than that of any one method within the
/// same budget. For an error budget the chosen are then measured together, and the last are given
/// up until they keep it. `measured` counts the layers.
///
/// Leaves the chosen applied. Throws UsageError for a cost that not even all layers reach, and for
/// limits that cannot be.
LayerChoices choose_layers(Pipeline& pipeline, const LayerCandidates& candidates,
                           const DenseTrajectory& trajectory, const LayerBudget& budget,
                           const std::function<void(std::size_t)>& measured = {});

/// The choice as JSON.
nlohmann::ordered_json to_json(const LayerChoices& choices);

}  // namespace rtlynx
