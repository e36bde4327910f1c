// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
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
  CalibrationRun calibration;  ///< what those methods learn from that learn at all
};

/// What is being done, and how far it is.
using EvaluateCallback =
    std::function<void(const std::string& stage, std::int64_t finished, std::int64_t all)>;

/// Called with every picture; `index` counts the captions.
using PictureCallback =
    std::function<void(const std::string& method, std::size_t index, const Image& picture)>;

/// Draws the same held-out captions from the same noise by every method, dense always first, and
/// measures velocity error, pictures and captions (study/method_scores.h). The report is one
/// object: what was run, `methods`, a list of objects with name, kind, description, relative_cost
/// and the scores, and, if a method learns, `inputs`: how many directions each layer's input uses
/// (compensate/second_moment.h), which decides how far one may conclude from a small model to a
/// large one. Leaves the model dense. Throws UsageError for an unknown method and Error for a
/// compensation that does not fit before any work.
nlohmann::ordered_json evaluate_methods(Pipeline& pipeline, const EvaluateOptions& options,
                                        const EvaluateCallback& on_progress = {},
                                        const PictureCallback& on_picture = {});

}  // namespace rtlynx
