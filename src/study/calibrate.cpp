// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <iterator>
#include <utility>

#include "base/error.h"
#include "models/revision.h"
#include "study/calibration_part.h"
#include "study/calibration_passes.h"
#include "study/solve_inputs.h"

namespace rtlynx {
namespace {

// Nothing if it was stopped. `progress` counts the passes of all parts.
std::optional<CalibrationSums> collect(Pipeline& pipeline, const CalibrateOptions& options,
                                       const CalibrationPart& part, CalibrateProgress& progress,
                                       const CalibrateCallback& on_step) {
  CalibrationPasses passes(pipeline, options, part, part.file(options.statistics));
  if (options.transform.needs_moments() && !passes.sum_inputs(progress, on_step)) {
    return std::nullopt;
  }
  if (!passes.sum_choices(progress, on_step)) return std::nullopt;
  return passes.take_sums();
}

CalibrateProgress progress_over(std::size_t parts, const CalibrateOptions& options) {
  return {.passes = static_cast<int>(parts) * (options.transform.needs_moments() ? 2 : 1)};
}

void append(CalibrateResult& all, CalibrateResult part) {
  if (all.layers.empty()) {
    all = std::move(part);
    return;
  }
  std::move(part.layers.begin(), part.layers.end(), std::back_inserter(all.layers));
  all.compensation.layers.merge(part.compensation.layers);
}

}  // namespace

std::optional<CalibrationSums> collect_sums(Pipeline& pipeline, const CalibrateOptions& options,
                                            const CalibrateCallback& on_step) {
  CalibrateProgress progress = progress_over(1, options);
  return collect(pipeline, options, whole_calibration(pipeline, options), progress, on_step);
}

std::optional<CalibrationSums> collect_input_sums(Pipeline& pipeline, const CalibrationRun& run,
                                                  const std::filesystem::path& statistics,
                                                  const CalibrateCallback& on_step) {
  CalibrateOptions options{.run = run, .statistics = statistics};
  options.solve.rank = 1;  // nothing is solved
  return collect_sums(pipeline, options, on_step);
}

std::int64_t picture_steps(const CalibrateOptions& options, std::size_t parts) {
  const PromptRange all = prompts_of(options.run, options.shard);
  std::int64_t pictures = all.size();
  if (options.transform.needs_moments()) pictures += pictures_of_inputs(options.run, all);
  return static_cast<std::int64_t>(parts) * pictures * options.run.steps;
}

CalibrateResult solve_layers(const Pipeline& pipeline, const CalibrationSums& sums,
                             const CalibrateOptions& options) {
  CalibrateResult result{.finished = true,
                         .layers = {},
                         .compensation = {.base_model = pipeline.name,
                                          .base_revision = weights_revision(*pipeline.transformer),
                                          .method = std::string(to_string(options.solve.method)),
                                          .transform = to_string(options.transform),
                                          .recipe = options.recipe,
                                          .rank = rank_of(options.solve),
                                          .layers = {}}};
  solve_inputs(whole_calibration(pipeline, options).inputs, sums, options, result);
  return result;
}

CalibrateResult calibrate(Pipeline& pipeline, const CalibrateOptions& options,
                          const CalibrateCallback& on_step) {
  if (options.shard) throw UsageError("calibrate: required all prompts to solve from, got a shard");
  const std::vector<CalibrationPart> parts = calibration_parts(pipeline, options);
  CalibrateProgress progress = progress_over(parts.size(), options);
  CalibrateResult result;
  for (const CalibrationPart& part : parts) {
    const auto sums = collect(pipeline, options, part, progress, on_step);
    if (!sums) return {};
    append(result, solve_layers(pipeline, *sums, options));
  }
  return result;
}

std::int64_t statistics_bytes(std::int64_t channels, const CalibrateOptions& options) {
  return (options.transform.needs_moments() ? 32 : 24) * channels * channels;
}

std::int64_t statistics_bytes(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::int64_t bytes = 0;
  for (const SharedInput& group : whole_calibration(pipeline, options).inputs) {
    bytes += statistics_bytes(group.channels(), options);
  }
  return bytes;
}

std::vector<std::filesystem::path> statistics_files(const Pipeline& pipeline,
                                                    const CalibrateOptions& options) {
  std::vector<std::filesystem::path> files;
  for (const CalibrationPart& part : calibration_parts(pipeline, options)) {
    files.push_back(part.file(options.statistics));
  }
  return files;
}

nlohmann::ordered_json to_json(const CalibrateResult& result) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const CalibratedLayer& layer : result.layers) {
    layers.push_back({{"name", layer.name},
                      {"input", layer.input},
                      {"in", layer.in_features},
                      {"out", layer.out_features},
                      {"tokens", layer.tokens},
                      {"error_before", layer.solution.error_before},
                      {"error", layer.solution.error},
                      {"unrecoverable", layer.solution.unrecoverable}});
  }
  const ModelCompensation& made = result.compensation;
  return {{"model", made.base_model}, {"revision", made.base_revision},
          {"method", made.method},    {"transform", made.transform},
          {"recipe", made.recipe},    {"rank", made.rank},
          {"layers", layers}};
}

}  // namespace rtlynx
