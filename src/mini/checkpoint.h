// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "io/safetensors.h"
#include "mini/adamw.h"

namespace rtlynx {

/// Writes the optimizer's state and the description of the run that it belongs to (everything that
/// decides which weights come out), as one safetensors file, under its name only when complete.
/// Throws Error, naming step and tensor, for a state that is not finite, and leaves the last one.
void save_checkpoint(const std::filesystem::path& path, const SafetensorsMetadata& description,
                     const AdamW& optimizer);

/// Restores the state saved by save_checkpoint, if the file exists. Throws Error when it belongs to
/// a run of another description, naming the first difference.
void load_checkpoint(const std::filesystem::path& path, const SafetensorsMetadata& description,
                     AdamW& optimizer);

}  // namespace rtlynx
