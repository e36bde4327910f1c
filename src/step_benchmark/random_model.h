// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"

namespace rtlynx::step_benchmark {

/// Weights that keep activations of order one through all blocks.
void fill_with_random_weights(torch::nn::Module& model);

/// Gives `to` the weights and the layers' forms that `from` has under the same names, in the type
/// of `to`. `to` may have fewer blocks.
void copy_weights_and_forms(const torch::nn::Module& from, torch::nn::Module& to);

/// ||value - exact|| / ||exact||.
double relative_distance(const torch::Tensor& value, const torch::Tensor& exact);

/// Positions (0, row, column) of side x side tokens, row by row: [side^2, 3] fp32.
torch::Tensor grid_positions(std::int64_t side);

}  // namespace rtlynx::step_benchmark
