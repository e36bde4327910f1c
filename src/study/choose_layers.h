// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "compensate/compensation_file.h"
#include "pipeline/pipeline.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// Up to where layers are made sparse.
struct LayerBudget {
  enum class Kind {
    error,  ///< as many as keep the velocity's relative error at most `limit`
    speed,  ///< as few as bring the multiplications of all Linears to at most `limit` of dense
  };
  Kind kind = Kind::error;
  double limit = 0.05;
};

/// A candidate, measured alone: all other layers dense.
struct LayerChoice {
  std::string name;
  double velocity_error = 0;  ///< relative, on the trajectory
  double saved = 0;           ///< of the multiplications of all Linears, as a share
  bool chosen = false;
};

struct LayerChoices {
  std::vector<LayerChoice> layers;  ///< in the order in which they were taken up
  double velocity_error = 0;        ///< of the chosen together
  double relative_flops = 1;        ///< of all Linears, relative to dense
  ModelCompensation compensation;   ///< with the chosen layers alone
};

/// Multiplications per token of a Linear under `values`, relative to dense: half, and the low rank
/// r (N + K) and the transform's blocks g K, of which every layer counts its `share` of the input.
double relative_flops(const Compensation24& values, std::int64_t in_features,
                      std::int64_t out_features, double share);

/// Measures the velocity error of every layer of `compensation` alone, and takes them up in the
/// order of squared error per saved multiplication until the budget is reached: errors of single
/// layers add up in square, nearly. For an error budget the chosen are then measured together, and
/// the last are given up until they keep it. `measured` counts the layers.
///
/// Leaves the chosen applied. Throws UsageError for a speed that not even all layers reach, and for
/// limits that cannot be.
LayerChoices choose_layers(Pipeline& pipeline, const ModelCompensation& compensation,
                           const DenseTrajectory& trajectory, const LayerBudget& budget,
                           const std::function<void(std::size_t)>& measured = {});

/// The choice as JSON.
nlohmann::ordered_json to_json(const LayerChoices& choices);

}  // namespace rtlynx
