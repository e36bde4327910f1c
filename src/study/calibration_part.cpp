// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_part.h"

#include <algorithm>
#include <iomanip>
#include <limits>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "models/recipe.h"
#include "models/revision.h"

namespace rtlynx {
namespace {

std::vector<SharedInput> groups_of(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::vector<SharedInput> groups =
      shared_inputs(*pipeline.transformer, pipeline.transformer->groups(),
                    recipe_from_string(options.recipe, pipeline.transformer->groups()));
  if (groups.empty()) {
    throw UsageError("recipe: required one that names layers of " + pipeline.name + ", got " +
                     options.recipe);
  }
  for (const SharedInput& group : groups) check_layers(group, options);
  return groups;
}

SafetensorsMetadata describe(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::ostringstream guidance;
  guidance << options.run.guidance;
  return {{"base_revision", weights_revision(*pipeline.transformer)},
          {"recipe", options.recipe},
          {"transform", to_string(options.transform)},
          {"norm", uses_norm(options.solve) ? "true" : "false"},
          {"prompts", std::to_string(options.run.prompts)},
          {"seed", std::to_string(options.run.seed)},
          {"steps", std::to_string(options.run.steps)},
          {"guidance", guidance.str()},
          {"batch", std::to_string(options.run.batch)},
          {"rows", std::to_string(options.rows)}};
}

std::vector<CalibrationPart> parts_within(std::int64_t memory, const Pipeline& pipeline,
                                          const CalibrateOptions& options) {
  std::vector<CalibrationPart> parts;
  std::int64_t held = 0;
  for (SharedInput& group : groups_of(pipeline, options)) {
    const std::int64_t bytes = statistics_bytes(group.channels(), options);
    if (parts.empty() || held > memory - bytes) {
      parts.emplace_back();
      held = 0;
    }
    parts.back().inputs.push_back(std::move(group));
    held += bytes;
  }
  const SafetensorsMetadata description = describe(pipeline, options);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].index = i;
    parts[i].count = parts.size();
    parts[i].description = description;
    parts[i].description["first_input"] = parts[i].inputs.front().name;
    parts[i].description["inputs"] = std::to_string(parts[i].inputs.size());
  }
  return parts;
}

}  // namespace

void check_layers(const SharedInput& group, const CalibrateOptions& options) {
  const std::int64_t channels = group.channels(), rank = options.solve.rank;
  const std::string channels_text = std::to_string(channels) + " channels of " + group.name;
  if (channels % 16 != 0) {
    throw UsageError("recipe: required inputs of a multiple of 16 channels, got the " +
                     channels_text);
  }
  const std::int64_t block = options.transform.block;
  if (options.transform.kind == TransformChoice::Kind::block && channels % block != 0) {
    throw UsageError("transform: required blocks that divide the " + channels_text + ", got " +
                     std::to_string(block));
  }
  for (const NamedLinear& layer : group.layers) {
    const std::int64_t most = std::min(channels, layer.linear->out_features());
    if (rank < 1 || rank > most) {
      throw UsageError("rank: required 1 to " + std::to_string(most) + " for " + layer.name +
                       ", got " + std::to_string(rank));
    }
  }
}

void check_calibration(const Pipeline& pipeline, const CalibrateOptions& options) {
  groups_of(pipeline, options);
}

std::filesystem::path CalibrationPart::file(std::filesystem::path path) const {
  if (path.empty() || count == 1) return path;
  std::ostringstream name;
  name << path.stem().string() << '-' << std::setfill('0') << std::setw(5) << index + 1 << "-of-"
       << std::setw(5) << count << path.extension().string();
  return path.replace_filename(name.str());
}

std::vector<CalibrationPart> calibration_parts(const Pipeline& pipeline,
                                               const CalibrateOptions& options) {
  return parts_within(options.memory, pipeline, options);
}

CalibrationPart whole_calibration(const Pipeline& pipeline, const CalibrateOptions& options) {
  return parts_within(std::numeric_limits<std::int64_t>::max(), pipeline, options).front();
}

}  // namespace rtlynx
