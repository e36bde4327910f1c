// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/calibrate_arguments.h"

namespace rtlynx::cli {

/// `rtlynx calibrate --embeddings`: the compensation of a model's transformer from what its text
/// encoders gave.
void calibrate_from_embeddings(const CalibrateArguments& arguments);

}  // namespace rtlynx::cli
