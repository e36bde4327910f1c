// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/pipeline.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// Which pictures to draw and compare.
struct EvaluateOptions {
  int prompts = 500;          ///< held-out captions
  int velocity_prompts = 32;  ///< the first of them, for the velocity error; 0 leaves it out
  std::uint64_t seed = 2026;  ///< of the list of captions
  int steps = 28;
  double guidance = 4.0;
  int batch = 32;
  std::vector<std::string> methods = {"dense", "naive", "norm"};  ///< study/methods.h
  std::vector<std::filesystem::path> compensations;  ///< files of rtlynx calibrate, after these
  CalibrationRun calibration;   ///< what those methods learn from that learn at all
  std::filesystem::path lpips;  ///< weights (study/lpips.h); none: not measured
  /// Of finished methods, gone on with if the file exists; none: not kept.
  std::filesystem::path results;
  std::filesystem::path pictures;  ///< folder for <method>-0000.png and so on; none: not written
  int kept_pictures = 8;           ///< of every method, the first ones
};

/// What is being done, and how far it is. Returns false to stop.
using EvaluateCallback =
    std::function<bool(const std::string& stage, std::int64_t finished, std::int64_t all)>;

/// Draws the same held-out captions from the same noise by every method, dense always first, and
/// measures velocity error, pictures and captions (study/method_scores.h). The report is one
/// object: what was run, `methods`, a list of objects with name, kind, description, relative_cost
/// and the scores, and, if a method learns, `inputs`: how many directions each layer's input uses
/// (compensate/second_moment.h), which decides how far one may conclude from a small model to a
/// large one.
///
/// A run that was stopped, which returns nothing, and then gone on with gives the same report:
/// finished methods are taken from options.results, and what all share (the dense pictures, the
/// inputs that methods learn from) is made anew for the others. Those may be others than before.
///
/// Leaves the model dense. Before any work throws UsageError for an unknown method, Error for a
/// compensation that does not fit, for weights that are no LPIPS or results of another evaluation.
std::optional<nlohmann::ordered_json> evaluate_methods(Pipeline& pipeline,
                                                       const EvaluateOptions& options,
                                                       const EvaluateCallback& on_progress = {});

}  // namespace rtlynx
