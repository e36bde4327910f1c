// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"
#include "layers/compensation24.h"

namespace rtlynx {

/// Which operand of a Linear's product is 2:4-sparse.
enum class SparseSide : std::uint8_t { none, activation, weight };

/// How a Linear with weight W [N, K] and bias b runs: z the transformed input, S(z) = s z~ for a
/// sparse activation, else z:
///
///   y = S(z) W'^T + (z L_down^T) L_up^T + b
struct LinearForm {
  SparseSide side = SparseSide::none;
  bool norm = true;          // sparse activation: s restores the token's norm
  InputTransform transform;  // z = x without one
  torch::Tensor weight;      // W' [N, K], the layer's own unless it has another
  torch::Tensor bias;        // b [N], or undefined
  torch::Tensor down, up;    // [r, K], [N, r], or undefined
  bool e4m3 = false;         // sparse activation: z~ and W' are rounded to e4m3
};

/// down [r, K] (dimension 0) or up [N, r] (dimension 1) with zeros behind it, to a rank that the
/// kernels take.
torch::Tensor padded_rank(const torch::Tensor& matrix, std::int64_t dimension);

}  // namespace rtlynx
