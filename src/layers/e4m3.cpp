// SPDX-License-Identifier: Apache-2.0
#include "layers/e4m3.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rtlynx {

double e4m3_unit(const std::vector<torch::Tensor>& weights) {
  constexpr double kLargestCode = 448;
  double largest = 0;
  for (const torch::Tensor& weight : weights) {
    const double own = weight.abs().max().item<double>();
    if (!std::isfinite(own)) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, own);
  }
  return largest == 0 ? 1.0 : std::exp2(std::ceil(std::log2(largest / kLargestCode)));
}

torch::Tensor to_e4m3(const torch::Tensor& weight, double unit) {
  return (weight.to(torch::kFloat32) / unit).to(torch::kFloat8_e4m3fn).contiguous();
}

double transform_gain(const torch::Tensor& transform) {
  return transform.to(torch::kFloat32).norm(2, {2}).max().item<double>();
}

}  // namespace rtlynx
