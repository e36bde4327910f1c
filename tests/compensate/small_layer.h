// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx::test {

/// A weight and tokens whose channels are correlated and of different strength.
struct SmallLayer {
  torch::Tensor weight;  // [N, K] fp64
  torch::Tensor tokens;  // [n, K] fp64
  torch::Tensor moment;  // [K, K] fp64

  SmallLayer(std::int64_t outputs, std::int64_t inputs, std::int64_t count = 400,
             std::uint64_t seed = 5) {
    torch::manual_seed(seed);
    weight = torch::randn({outputs, inputs}, torch::kFloat64);
    const torch::Tensor mix = torch::randn({inputs, inputs}, torch::kFloat64);
    const torch::Tensor strength = torch::exp(0.5 * torch::randn({inputs}, torch::kFloat64));
    tokens = torch::randn({count, inputs}, torch::kFloat64).matmul(mix) * strength;
    moment = tokens.t().matmul(tokens) / static_cast<double>(count);
  }

  /// Mean over the tokens of the squared difference of their outputs.
  double output_error(const torch::Tensor& replacement) const {
    return tokens.matmul((weight - replacement).t()).square().sum().item<double>() /
           static_cast<double>(tokens.size(0));
  }
};

}  // namespace rtlynx::test
