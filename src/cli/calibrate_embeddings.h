// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/calibrate_arguments.h"

namespace rtlynx::cli {

/// `rtlynx calibrate` with --prompts-file or --embeddings: the compensation of a transformer of
/// diffusers.
void calibrate_from_embeddings(const CalibrateArguments& arguments);

}  // namespace rtlynx::cli
