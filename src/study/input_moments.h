// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "compensate/moments.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// Second moments of every input that the recipe's layers read, by input group, over all tokens of
/// the run: 8 K^2 bytes per group. Leaves the model dense.
GroupMoments collect_input_moments(Pipeline& pipeline, const CalibrationRun& run,
                                   const StepCallback& on_step = {});

}  // namespace rtlynx
