// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>

namespace rtlynx::step_benchmark {

/// Milliseconds that the GPU's kernels took while `run` ran, by class (kernel_class.h).
std::map<std::string, double> time_by_class(const std::function<void()>& run);

}  // namespace rtlynx::step_benchmark
