// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "benchmark/results.h"
#include "rtlynx/gpu/tune.h"

namespace rtlynx::benchmark {

/// Keeps the configuration of each swept shape whose burst median is lowest, for products without a
/// low rank: what the sweep times.
void insert_fastest(const RunResult& run, gpu::TuneCache& cache);

/// The same in a cache's file, beside what other processes keep there meanwhile.
void keep_fastest(const RunResult& run, const std::filesystem::path& path);

}  // namespace rtlynx::benchmark
