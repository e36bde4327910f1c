// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "benchmark/options.h"

namespace rtlynx::benchmark {

/// Runs the GPU benchmark, prints its tables and writes the files asked for, which it does even if
/// something failed; then throws Error with what failed.
void run_command(const Options& options);

}  // namespace rtlynx::benchmark
