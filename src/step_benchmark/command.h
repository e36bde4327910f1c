// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "step_benchmark/run.h"

namespace rtlynx::step_benchmark {

/// `rtlynx bench --step`: prints a line for each variant, or with `turns` a line of JSON for each
/// round, so that another program may run between two of them. Throws Error, after all has been
/// written, if a variant is wrong (report.h).
void run_command(const StepOptions& options);

}  // namespace rtlynx::step_benchmark
