// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "benchmark/options.h"
#include "benchmark/results.h"

namespace rtlynx::benchmark {

/// Why this build on this machine cannot run the benchmark; empty if it can.
std::string why_no_gpu();

using Progress = std::function<void(int finished, int total, const std::string& at_work)>;

/// Verifies, then times, on the current device. A shape with a wrong result or a failed call is
/// named in RunResult::failures and has no figures. Throws Error if nothing can be run.
RunResult run_benchmark(const Options& options, const Progress& progress);

}  // namespace rtlynx::benchmark
