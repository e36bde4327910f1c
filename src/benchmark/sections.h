// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "benchmark/checks.h"
#include "benchmark/contenders.h"
#include "benchmark/results.h"
#include "benchmark/timing.h"

namespace rtlynx::benchmark {

/// Times the contenders of section gemm, pack, linear, fused, e4m3, weight or e4m3-weight.
Section time_section(const std::string& name, const Contenders& contenders, Timer& timer);

/// Verifies and times the sweep_configs() of the shape on packed input, rank 0. What a wrong one
/// gave goes to `failures`.
std::vector<SweepEntry> sweep(Contenders& contenders, const gpu::DeviceTraits& device,
                              ShapeChecks& checks, Timer& timer,
                              std::vector<std::string>* failures);

}  // namespace rtlynx::benchmark
