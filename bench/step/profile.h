// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>

namespace rtlynx::benchmark {

/// Milliseconds that the GPU's kernels took while `run` ran, by class: sparse product, pack, dense
/// product, attention, rows (residual, norm, heads), other.
std::map<std::string, double> time_by_class(const std::function<void()>& run);

/// The class of a kernel, by its name.
std::string class_of_kernel(const std::string& name);

}  // namespace rtlynx::benchmark
