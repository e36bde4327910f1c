// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "study/calibrate.h"
#include "study/calibration_part.h"
#include "study/calibration_state.h"
#include "study/input_collector.h"

namespace rtlynx {

/// Prompts [first, last) of a run, whole batches of it but for the run's end.
struct PromptRange {
  std::int64_t first = 0;
  std::int64_t last = 0;

  std::int64_t size() const { return last - first; }
  friend bool operator==(const PromptRange&, const PromptRange&) = default;
};

/// The whole run, or the share of its batches that `shard` takes. Throws UsageError where there are
/// more shards than batches.
PromptRange prompts_of(const CalibrationRun& run, const std::optional<CalibrationShard>& shard);

/// How many of a range's prompts the pass over the inputs draws: those of every fourth batch of the
/// run. A transform's blocks have 128 channels at most, and so need fewer tokens than a layer.
std::int64_t pictures_of_inputs(const CalibrationRun& run, const PromptRange& range);

/// A part's sums while they are drawn for, batch by batch: in a pass over the inputs, if transforms
/// are made of them, and in one over what is selected.
class CalibrationPasses {
 public:
  enum class Pass { inputs, choices };

  /// Goes on from `statistics`, if that is named and exists. `options` and `part` have to live as
  /// long.
  CalibrationPasses(Pipeline& pipeline, const CalibrateOptions& options,
                    const CalibrationPart& part, const std::filesystem::path& statistics);

  CalibrationState& state() { return state_; }
  bool needs_inputs() const { return options_.transform.needs_moments(); }

  /// The transforms that the inputs' sums make, and the sums of what was selected after them.
  CalibrationSums take_sums();

 private:
  friend class DrawnPass;
  using Transforms = InputCollector::Transforms;

  InputCollector collector_of(Pass pass) const;
  CalibrationPass& state_of(Pass pass) {
    return pass == Pass::inputs ? state_.inputs : state_.choices;
  }
  GenerateRequest slice(const PromptRange& range) const;
  void save() const;
  Transforms make_transforms() const;

  Pipeline& pipeline_;
  const CalibrateOptions& options_;
  const CalibrationPart& part_;
  std::filesystem::path statistics_;
  SafetensorsMetadata description_;
  GenerateRequest request_;
  PromptRange range_;
  CalibrationState state_;
};

/// Draws the prompts that are left of a pass, once for all `members`, which are of one run and
/// shard, adds them to their sums and saves those where that is due. Returns false if it was
/// stopped. Counts a pass in `progress`.
bool finish_pass(CalibrationPasses::Pass pass, const std::vector<CalibrationPasses*>& members,
                 CalibrateProgress& progress, const CalibrateCallback& on_step);

}  // namespace rtlynx
