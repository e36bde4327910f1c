// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>

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
};

/// The whole run, or the share of its batches that `shard` takes. Throws UsageError where there are
/// more shards than batches.
PromptRange prompts_of(const CalibrationRun& run, const std::optional<CalibrationShard>& shard);

/// How many of a range's prompts the pass over the inputs draws: those of every fourth batch of the
/// run. A transform's blocks have 128 channels at most, and so need fewer tokens than a layer.
std::int64_t pictures_of_inputs(const CalibrationRun& run, const PromptRange& range);

/// Draws what a part's sums are of, batch by batch: a pass over the inputs, if transforms are made
/// of them, and one over what is selected.
class CalibrationPasses {
 public:
  /// Goes on from `statistics`, if that is named and exists.
  CalibrationPasses(Pipeline& pipeline, const CalibrateOptions& options,
                    const CalibrationPart& part, const std::filesystem::path& statistics);

  /// Each adds the prompts that are left to its sums, saves them where that is due, and returns
  /// false if it was stopped. Both count a pass in `progress`.
  bool sum_inputs(CalibrateProgress& progress, const CalibrateCallback& on_step);
  bool sum_choices(CalibrateProgress& progress, const CalibrateCallback& on_step);

  CalibrationState& state() { return state_; }

  /// The transforms that the inputs' sums make, and the sums of what was selected after them.
  CalibrationSums take_sums();

 private:
  using Transforms = InputCollector::Transforms;

  bool finish_pass(CalibrationPass& pass, std::int64_t stride, InputCollector& collector,
                   CalibrateProgress& progress, const CalibrateCallback& on_step);
  GenerateRequest slice(std::int64_t first, std::int64_t last) const;
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

}  // namespace rtlynx
