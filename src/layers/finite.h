// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "base/libtorch.h"

namespace rtlynx {

/// Throws Error "<where>: required finite values, got NaN at [3, 5], 2 such among 96" unless every
/// value of a floating-point tensor, or no tensor, is finite. What is not finite turns into black
/// pictures and perfect scores: it is named where it first appears. Waits for the tensor's device.
void require_finite(const torch::Tensor& values, std::string_view where);

/// The same for one number.
void require_finite(double value, std::string_view where);

}  // namespace rtlynx
