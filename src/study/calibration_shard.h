// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "study/calibrate.h"
#include "study/calibration_part.h"

namespace rtlynx {

/// "2/4": the second of four. Throws UsageError for any other text, and for a shard that is none.
CalibrationShard shard_from_string(std::string_view text);
std::string to_string(const CalibrationShard& shard);

/// What decides the sums of a part, of all prompts or of a shard of them.
SafetensorsMetadata describe_shard(const CalibrationPart& part,
                                   const std::optional<CalibrationShard>& shard);

/// The shard whose statistics a file holds. Throws Error if it holds none of a shard.
CalibrationShard read_shard(const std::filesystem::path& file);

}  // namespace rtlynx
