// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "study/methods.h"

namespace rtlynx {

/// What several methods learn from: calibrations of one run, whose pictures are drawn once.
struct SharedCalibrations {
  std::vector<std::string> sums;  ///< their names, as MethodInputs has them
  std::vector<CalibrateOptions> options;
  std::size_t of_inputs = 0;  ///< of these, one whose X are the inputs as they are
};

/// What `waiting` draw, none where none of them learns. Sums of the inputs as they are are taken
/// from a method of `all` that has them, as those of a finished one were kept.
SharedCalibrations share_calibrations(std::span<const Method> waiting, std::span<const Method> all,
                                      const CalibrationRun& run, std::int64_t rows);

}  // namespace rtlynx
