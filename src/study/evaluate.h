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

#include "mini/mini_pipeline.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// Which pictures to draw and compare.
struct EvaluateOptions {
  int prompts = 500;          ///< held-out captions
  int velocity_prompts = 32;  ///< the first of them, for the velocity error; 0 leaves it out
  /// That is measured of each of them at one step in so many, of the next a step earlier.
  int velocity_stride = 4;
  std::uint64_t seed = 2026;  ///< of the list of captions
  int steps = 28;
  double guidance = 4.0;
  int batch = 32;
  std::vector<std::string> methods = {"dense", "naive", "norm"};  ///< study/methods.h
  std::vector<std::filesystem::path> compensations;  ///< files of rtlynx calibrate, after these
  /// What those methods learn from that learn at all: fewer steps than `calibrate` takes, and as
  /// many tokens.
  CalibrationRun calibration = {.steps = 7};
  std::int64_t calibration_rows = 1024;  ///< as CalibrateOptions::rows
  std::filesystem::path lpips;           ///< weights (study/lpips.h); none: not measured
  /// Also measures how far each method is from itself when only rounding changes.
  bool noise_floor = false;
  /// Of finished methods, gone on with if the file exists; none: not kept. What methods share is
  /// kept in the folder of this name with ".work" behind it until the report is made.
  std::filesystem::path results;
  bool restart = false;            ///< begins anew, and replaces the file
  std::filesystem::path pictures;  ///< folder for <method>-0000.png and so on; none: not written
  int kept_pictures = 8;           ///< of every method, the first ones
};

/// What an evaluation is going to draw: methods that are not finished, and denoising steps of
/// single pictures, those in batches of another size apart. Solving is not in it.
struct EvaluationPlan {
  std::int64_t methods = 0;
  std::int64_t picture_steps = 0;
  std::int64_t noise_floor_steps = 0;
};

using PlanCallback = std::function<void(const EvaluationPlan&)>;

/// Where results of `results` keep what methods share; empty for none.
std::filesystem::path work_folder(const std::filesystem::path& results);

/// How many pictures the noise floor of evaluate_methods draws at once.
int noise_floor_batch(const Pipeline& pipeline, int batch);

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
/// A run that was stopped, which returns nothing, and then gone on with gives the same report and
/// makes nothing again that was finished: methods are taken from options.results, the dense
/// pictures, the dense trajectory and what methods learn from are taken from beside it. Methods may
/// be others than before; several processes may share the results, and each takes what the others
/// finished.
///
/// noise_floor: of each method the PSNR of its pictures against its own pictures, drawn in batches
/// of another size ("noise_floor_batch"), over those that differ, and the share that does not
/// ("noise_floor_equal"). Nothing but rounding has changed between the two.
///
/// Leaves the model dense. Before any work throws UsageError for an unknown method or one that the
/// model's layers do not allow, Error for a compensation that does not fit, for weights that are no
/// LPIPS or results of another evaluation. `on_plan` is called once all that is known.
std::optional<nlohmann::ordered_json> evaluate_methods(Pipeline& pipeline,
                                                       const EvaluateOptions& options,
                                                       const EvaluateCallback& on_progress = {},
                                                       const PlanCallback& on_plan = {});

}  // namespace rtlynx
