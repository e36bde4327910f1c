// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/evaluate_arguments.h"

namespace rtlynx::cli {

/// `rtlynx evaluate` with a model in a folder of diffusers.
void evaluate_with_prompts(const EvaluateArguments& arguments);

}  // namespace rtlynx::cli
