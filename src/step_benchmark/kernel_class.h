// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace rtlynx::step_benchmark {

/// The class of a kernel, by its name: sparse product, pack, dense product, attention, rows
/// (residual, norm, heads), or other.
std::string class_of_kernel(const std::string& name);

}  // namespace rtlynx::step_benchmark
