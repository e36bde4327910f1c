// SPDX-License-Identifier: Apache-2.0
#include "study/calibration_shards.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "study/calibration_passes.h"
#include "study/calibration_shard.h"

namespace rtlynx {
namespace {

// Bitwise: transforms made of sums that differ at all need not be the same.
bool equal_inputs(const CalibrationPass& a, const CalibrationPass& b) {
  return std::equal(a.moments.begin(), a.moments.end(), b.moments.begin(), b.moments.end(),
                    [](const auto& one, const auto& other) {
                      return one.first == other.first && one.second.tokens == other.second.tokens &&
                             one.second.xx.equal(other.second.xx);
                    });
}

/// The first round of all shards, as the beginning of the second.
CalibrationPass read_inputs(const std::filesystem::path& path, const CalibrationPart& part,
                            const CalibrateOptions& options, torch::Device device) {
  require(std::filesystem::exists(path), path.string(), "the merged inputs of all shards",
          "no such file");
  CalibrationPass inputs = load_calibration(path, part.description, device).inputs;
  require(inputs.finished == options.run.prompts, path.string(),
          "inputs of all " + std::to_string(options.run.prompts) + " prompts",
          "of " + std::to_string(inputs.finished));
  return inputs;
}

void begin_second_round(CalibrationState& state, CalibrationPass inputs, const std::string& where) {
  require(state.choices.finished == 0 || equal_inputs(state.inputs, inputs), where,
          "the inputs that its second round began with", "others");
  state.inputs = std::move(inputs);
}

std::string where_of(const std::filesystem::path& file, const std::string& shard) {
  return file.string() + ", shard " + shard;
}

/// Files by the number of their shard: all of one division, each once.
std::map<int, std::filesystem::path> order_shards(const std::vector<std::filesystem::path>& files,
                                                  int& count) {
  std::map<int, std::filesystem::path> ordered;
  count = 0;
  for (const auto& file : files) {
    const CalibrationShard shard = read_shard(file);
    if (count == 0) count = shard.count;
    require(shard.count == count, file.string(),
            "a shard of " + std::to_string(count) + ", as the others", to_string(shard));
    const auto [place, is_new] = ordered.emplace(shard.index, file);
    if (!is_new) {
      fail(file.string(), "every shard once",
           to_string(shard) + " again, after " + place->second.string());
    }
  }
  for (int index = 1; index <= count; ++index) {
    if (!ordered.contains(index)) {
      fail("merge", "all " + std::to_string(count) + " shards",
           "none with " + to_string(CalibrationShard{.index = index, .count = count}));
    }
  }
  return ordered;
}

void add(GroupMoments& sums, const GroupMoments& more) {
  for (const auto& [group, moments] : more) sums[group].merge(moments);
}

/// Adds up the shards of one part.
class Merge {
 public:
  Merge(const CalibrateOptions& options, const CalibrationPart& part, torch::Device device)
      : options_(options), part_(part), device_(device) {}

  void add_shard(const std::filesystem::path& file, const CalibrationShard& shard) {
    const std::string where = where_of(file, to_string(shard));
    CalibrationState state = load_calibration(file, describe_shard(part_, shard), device_);
    const ShardProgress round = round_of(state, prompts_of(options_.run, shard), where);
    require(shard.index == 1 || round == round_, where, "the same round as the first shard",
            "another");
    round_ = round;
    if (round == ShardProgress::inputs_ready) {
      add(sums_.inputs.moments, state.inputs.moments);
      sums_.inputs.finished = options_.run.prompts;
      return;
    }
    if (shard.index == 1) {
      sums_.inputs = std::move(state.inputs);
    } else {
      require(equal_inputs(sums_.inputs, state.inputs), where,
              "transforms made of the same inputs as the first shard's", "of others");
    }
    add(sums_.choices.moments, state.choices.moments);
    sums_.choices.finished = options_.run.prompts;
  }

  const CalibrationState& sums() const { return sums_; }
  ShardProgress round() const { return round_; }

 private:
  // Of a shard that has finished one.
  ShardProgress round_of(const CalibrationState& state, const PromptRange& range,
                         const std::string& where) const {
    const bool second =
        !options_.transform.needs_moments() || state.inputs.finished == options_.run.prompts;
    const std::int64_t finished = second ? state.choices.finished : state.inputs.finished;
    if (finished != range.size()) {
      fail(where, "all of its " + std::to_string(range.size()) + " prompts",
           std::to_string(finished) + "; the command that made it goes on");
    }
    return second ? ShardProgress::finished : ShardProgress::inputs_ready;
  }

  const CalibrateOptions& options_;
  const CalibrationPart& part_;
  torch::Device device_;
  CalibrationState sums_;
  ShardProgress round_ = ShardProgress::stopped;
};

}  // namespace

ShardProgress collect_shard(Pipeline& pipeline, const CalibrateOptions& options,
                            const std::filesystem::path& merged_inputs,
                            const CalibrateCallback& on_step) {
  if (!options.shard || options.statistics.empty()) {
    throw UsageError("shard: required its number and a file for its statistics, got none");
  }
  const bool two_rounds = options.transform.needs_moments();
  const bool first_round = two_rounds && merged_inputs.empty();
  if (!two_rounds && !merged_inputs.empty()) {
    throw UsageError("inputs: required a transform that is made of them, got " +
                     to_string(options.transform));
  }
  const std::vector<CalibrationPart> parts = calibration_parts(pipeline, options);
  CalibrateProgress progress{.passes = static_cast<int>(parts.size())};
  for (const CalibrationPart& part : parts) {
    const auto file = part.file(options.statistics);
    CalibrationPasses passes(pipeline, options, part, file);
    if (two_rounds && !first_round) {
      begin_second_round(
          passes.state(),
          read_inputs(part.file(merged_inputs), part, options, pipeline.options().device()),
          file.string());
    }
    const auto pass =
        first_round ? CalibrationPasses::Pass::inputs : CalibrationPasses::Pass::choices;
    if (!finish_pass(pass, {&passes}, progress, on_step)) return ShardProgress::stopped;
  }
  return first_round ? ShardProgress::inputs_ready : ShardProgress::finished;
}

ShardProgress merge_shards(const Pipeline& pipeline, const CalibrateOptions& options,
                           const std::vector<std::filesystem::path>& files) {
  const std::vector<CalibrationPart> parts = calibration_parts(pipeline, options);
  const torch::Device device = pipeline.options().device();
  ShardProgress round = ShardProgress::finished;
  for (const CalibrationPart& part : parts) {
    std::vector<std::filesystem::path> of_part;
    for (const auto& file : files) of_part.push_back(part.file(file));
    const auto target = part.file(options.statistics);
    if (std::find(of_part.begin(), of_part.end(), target) != of_part.end()) {
      throw UsageError("merge: required a file for the sums that is not a shard's, got " +
                       target.string());
    }
    load_calibration(target, part.description, device);  // refuses another calibration's
    int count = 0;
    Merge merge(options, part, device);
    for (const auto& [index, file] : order_shards(of_part, count)) {
      merge.add_shard(file, {.index = index, .count = count});
    }
    save_calibration(target, part.description, merge.sums());
    round = merge.round();
  }
  return round;
}

}  // namespace rtlynx
