// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

/// What can stand in for the weight W [N, K] of a Linear with bias b, the same for all tokens:
///
///   y = z W'^T + (x L_down^T) L_up^T + b,   z = x P where there are axes, else x.
///
/// A weight alone is any other dense one; with zeros in it, pruned. An InputGroup runs a 2:4 one on
/// the Sparse Tensor Cores where it can.
/// A low rank alone is W as a product of two. Axes keep h of every g channels' directions.
struct Replacement {
  torch::Tensor axes;    // [K/g, g, h], the blocks of P [K, K h / g]; with a weight only
  torch::Tensor weight;  // W' [N, K], or [N, K h / g] with axes
  torch::Tensor down;    // L_down [r, K], with `up` or not at all
  torch::Tensor up;      // L_up [N, r]
  torch::Tensor bias;    // b [N]; undefined: the layer's own
  bool sparse = false;   ///< at most 2 of every 4 consecutive entries of W' [N, K] are not zero

  std::int64_t rank() const { return down.defined() ? down.size(0) : 0; }

  /// Multiplications per token relative to those of W; half of those of W' if it is sparse.
  double relative_flops(std::int64_t in_features, std::int64_t out_features) const;

  /// x [..., K] -> y [..., N]. `layer_bias` [N], the layer's own, may be undefined.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& layer_bias) const;

  /// The dense weight [N, K] with the same outputs, in fp64.
  torch::Tensor effective() const;

  /// Throws Error unless everything fits a Linear of `in_features` (K) and `out_features` (N),
  /// there is a weight or a low rank, and `sparse` is true to its word.
  void check(std::int64_t in_features, std::int64_t out_features) const;
};

/// Holds a replacement as buffers, so that it follows its layer to another device or type.
class ReplacementHolderImpl : public torch::nn::Module {
 public:
  /// Copies are made where type or device differ from `options`.
  ReplacementHolderImpl(const Replacement& replacement, const torch::TensorOptions& options);

  Replacement values;
};
TORCH_MODULE(ReplacementHolder);

}  // namespace rtlynx
