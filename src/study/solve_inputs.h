// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/shared_input.h"
#include "study/calibrate.h"

namespace rtlynx {

/// Solves every layer of the inputs that are among the sums, and adds them to `result`, in the
/// order of the inputs. Throws Error, naming the input, for sums that are not finite.
void solve_inputs(const std::vector<SharedInput>& inputs, const CalibrationSums& sums,
                  const CalibrateOptions& options, CalibrateResult& result);

}  // namespace rtlynx
