// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// What a 1 stands for in e4m3 weights: the smallest power of two by which none of these weights
/// leaves the range of e4m3. By a power of two each is rounded as it would be by itself. NaN for a
/// weight that is not finite. Waits for the device.
double e4m3_unit(const std::vector<torch::Tensor>& weights);

/// weight / unit, rounded to e4m3.
torch::Tensor to_e4m3(const torch::Tensor& weight, double unit);

/// The largest Euclidean norm of a row of the transform's outputs [K / g, g outputs, g inputs].
/// Waits for the device.
double transform_gain(const torch::Tensor& transform);

}  // namespace rtlynx
