// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"
#include "ops/ops.h"

namespace rtlynx {

/// x [..., K] -> s x~ of the same shape and type, s = 1 without `norm`, with gradients.
///
/// The choice is a constant: with k = x~ and the gradient g of the result,
///   dx = s (m g + (g . k) (x / ||x||^2 - k / ||k||^2)),   m = 1 where a value was kept, else 0;
/// the second term, through s, only with `norm`. A kept zero ties with the zeros dropped beside it;
/// it gets no gradient.
torch::Tensor select24(const torch::Tensor& x, bool norm);

/// ops::linear24 as a composition of select24 and dense products, so that gradients reach x and all
/// weights.
torch::Tensor differentiable_linear24(const torch::Tensor& x, const ops::Linear24Weights& weights,
                                      bool norm);

}  // namespace rtlynx
