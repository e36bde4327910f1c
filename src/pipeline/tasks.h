// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

#include "base/libtorch.h"

namespace rtlynx {

/// Calls task(i) for every i below `count`. On the CPU as many run at a time as torch has threads,
/// each on one, which takes less time than all threads for one small task after the other;
/// elsewhere one runs at a time. After a task throws no other begins, and the exception is passed
/// on.
void run_tasks(const torch::Device& device, std::size_t count,
               const std::function<void(std::size_t)>& task);

}  // namespace rtlynx
