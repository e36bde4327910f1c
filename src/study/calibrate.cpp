// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "models/revision.h"
#include "study/calibration_part.h"
#include "study/calibration_passes.h"
#include "study/solve_inputs.h"

namespace rtlynx {
namespace {

using Pass = CalibrationPasses::Pass;

// False if it was stopped. `progress` counts the passes of all parts.
bool draw_for(const std::vector<CalibrationPasses*>& all, CalibrateProgress& progress,
              const CalibrateCallback& on_step) {
  std::vector<CalibrationPasses*> transformed = all;
  std::erase_if(transformed, [](const CalibrationPasses* one) { return !one->needs_inputs(); });
  return (transformed.empty() || finish_pass(Pass::inputs, transformed, progress, on_step)) &&
         finish_pass(Pass::choices, all, progress, on_step);
}

bool any_needs_moments(std::span<const CalibrateOptions> all) {
  return std::any_of(all.begin(), all.end(), [](const CalibrateOptions& options) {
    return options.transform.needs_moments();
  });
}

CalibrateProgress progress_over(std::size_t parts, std::span<const CalibrateOptions> all) {
  return {.passes = static_cast<int>(parts) * (any_needs_moments(all) ? 2 : 1)};
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
  auto sums = collect_sums(pipeline, std::span(&options, 1), on_step);
  return sums ? std::optional(std::move(sums->front())) : std::nullopt;
}

std::optional<std::vector<CalibrationSums>> collect_sums(Pipeline& pipeline,
                                                         std::span<const CalibrateOptions> all,
                                                         const CalibrateCallback& on_step) {
  std::vector<CalibrationPart> parts;
  for (const CalibrateOptions& options : all) {
    parts.push_back(whole_calibration(pipeline, options));
  }
  std::vector<CalibrationPasses> passes;
  passes.reserve(all.size());
  std::vector<CalibrationPasses*> members;
  for (std::size_t i = 0; i < all.size(); ++i) {
    passes.emplace_back(pipeline, all[i], parts[i], all[i].statistics);
    members.push_back(&passes.back());
  }
  CalibrateProgress progress = progress_over(1, all);
  if (!draw_for(members, progress, on_step)) return std::nullopt;
  std::vector<CalibrationSums> sums;
  for (CalibrationPasses& one : passes) sums.push_back(one.take_sums());
  return sums;
}

CalibrateOptions input_sums_options(const CalibrationRun& run) {
  return {.run = run, .solve = {.rank = 1}};  // nothing is solved
}

std::int64_t picture_steps(const CalibrateOptions& options, std::size_t parts) {
  return static_cast<std::int64_t>(parts) * picture_steps(std::span(&options, 1));
}

std::int64_t picture_steps(std::span<const CalibrateOptions> all) {
  if (all.empty()) return 0;
  const CalibrateOptions& any = all.front();
  const PromptRange prompts = prompts_of(any.run, any.shard);
  std::int64_t pictures = prompts.size();
  if (any_needs_moments(all)) pictures += pictures_of_inputs(any.run, prompts);
  return pictures * any.run.steps;
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
  CalibrateProgress progress = progress_over(parts.size(), std::span(&options, 1));
  CalibrateResult result;
  for (const CalibrationPart& part : parts) {
    CalibrationPasses passes(pipeline, options, part, part.file(options.statistics));
    if (!draw_for({&passes}, progress, on_step)) return {};
    append(result, solve_layers(pipeline, passes.take_sums(), options));
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
