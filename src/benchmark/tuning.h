// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "benchmark/results.h"
#include "rtlynx/gpu/tune.h"

namespace rtlynx::benchmark {

/// Keeps the configuration of each swept shape whose burst median is lowest, for products without a
/// low rank: what the sweep times.
void insert_fastest(const RunResult& run, gpu::TuneCache& cache);

}  // namespace rtlynx::benchmark
