// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "io/safetensors.h"
#include "models/shared_input.h"
#include "study/calibrate.h"

namespace rtlynx {

/// Inputs whose sums are held at the same time.
struct CalibrationPart {
  std::vector<SharedInput> inputs;
  SafetensorsMetadata description;  ///< what decides the sums; method, rank and damping do not
  std::size_t index = 0;
  std::size_t count = 1;

  /// The file of this part that `path` stands for: itself, or with -00001-of-0000N before its
  /// extension. None for none.
  std::filesystem::path file(std::filesystem::path path) const;
};

/// Throws UsageError where the model's layers do not allow what the options ask: a recipe that is
/// unknown or names none of them, a rank or a block of a transform that a layer cannot have, inputs
/// that have no groups of 4 channels.
void check_calibration(const Pipeline& pipeline, const CalibrateOptions& options);

/// The same of the layers that read one input.
void check_layers(const SharedInput& group, const CalibrateOptions& options);

/// The inputs that the recipe's layers read, in parts that fit options.memory, or one input where
/// that alone is larger. Throws as check_calibration does.
std::vector<CalibrationPart> calibration_parts(const Pipeline& pipeline,
                                               const CalibrateOptions& options);

/// All inputs as one part, whatever their sums take.
CalibrationPart whole_calibration(const Pipeline& pipeline, const CalibrateOptions& options);

}  // namespace rtlynx
