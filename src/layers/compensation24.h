// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

/// The map from a layer's input x [..., K] to z [..., K], in which the 2 of every 4 channels are
/// chosen. Layers that read the same input share it. Nothing defined is z = x; `blocks` excludes
/// the other two, which may stand together.
struct InputTransform {
  torch::Tensor blocks;       // [K/g, g, g]: z = x A, A block-diagonal with blocks of g channels
  torch::Tensor scale;        // [K]: z_j = c_j x_j
  torch::Tensor permutation;  // [K] int64: z_j = c_p(j) x_p(j)

  bool is_identity() const {
    return !blocks.defined() && !scale.defined() && !permutation.defined();
  }

  /// Throws Error unless the tensors have these shapes for K `channels` and `permutation` is one.
  void check(std::int64_t channels) const;

  /// The same on another device.
  InputTransform to(const torch::Device& device) const;

  /// x [..., K] -> z [..., K], contiguous for blocks.
  torch::Tensor apply(const torch::Tensor& x) const;

  /// The weight that reads z as `weight` [N, K] reads x: z W_z^T = x W^T. W A^-T in fp64, to be
  /// rounded by the caller. Throws Error for a scale of zero.
  torch::Tensor weight_for_z(const torch::Tensor& weight) const;

  /// L_down for the input of the blocks: of one that reads z [r, K], x down_for_x^T = z down^T.
  /// Rounded once to the type of `down`.
  torch::Tensor down_for_x(const torch::Tensor& down) const;
};

/// What makes up for the dropped channels of a Linear with weight W [N, K] and bias b:
///
///   y = s z~ W'^T + (z L_down^T) L_up^T + b,   z the transformed input, z~ its kept half.
struct Compensation24 {
  bool norm = true;  ///< s = ||z|| / ||z~|| per token, else 1
  InputTransform transform;
  torch::Tensor weight;  // W' [N, K]; undefined: what reads z as the layer's own W reads x
  torch::Tensor down;    // L_down [r, K], with `up` or not at all
  torch::Tensor up;      // L_up [N, r]
  torch::Tensor bias;    // b [N]; undefined: the layer's own
  bool e4m3 = false;     ///< z~ and W' are rounded to e4m3: z~ with a scale per token

  std::int64_t rank() const { return down.defined() ? down.size(0) : 0; }

  /// Throws Error unless everything fits a Linear of `in_features` (K) and `out_features` (N).
  void check(std::int64_t in_features, std::int64_t out_features) const;
};

/// Holds a compensation as buffers, so that it follows its layer to another device or type. The
/// permutation, an index, only follows to the device of its input.
class CompensationHolderImpl : public torch::nn::Module {
 public:
  /// Copies are made where type or device differ from `options`.
  CompensationHolderImpl(const Compensation24& compensation, const torch::TensorOptions& options);

  Compensation24 values;
};
TORCH_MODULE(CompensationHolder);

}  // namespace rtlynx
