// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "base/libtorch.h"
#include "compensate/moments.h"
#include "io/safetensors.h"

namespace rtlynx {

/// What begins the metadata of such a file.
inline constexpr const char* kStatisticsFormat = "rtlynx calibration statistics 1";

/// One pass over the prompts of a calibration: what was summed so far.
struct CalibrationPass {
  GroupMoments moments;
  std::int64_t finished = 0;  ///< prompts
};

/// Where a calibration stands.
struct CalibrationState {
  CalibrationPass inputs;   ///< of inputs alone, from which transforms are made; may stay empty
  CalibrationPass choices;  ///< of transformed inputs and of what was selected of them
};

/// Writes the state as one safetensors file, under its name only when complete. `description` says
/// what decides the sums: model, prompts, transform and so on. Throws Error for sums that are not
/// finite.
void save_calibration(const std::filesystem::path& path, const SafetensorsMetadata& description,
                      const CalibrationState& state);

/// The state in the file, on `device`; an empty one if there is none. Throws Error when the file
/// belongs to a calibration of another description, naming the first difference.
CalibrationState load_calibration(const std::filesystem::path& path,
                                  const SafetensorsMetadata& description, torch::Device device);

}  // namespace rtlynx
