// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "base/libtorch.h"
#include "layers/compensation24.h"

namespace rtlynx {

/// The sizes of block that a pack can transform while it stages x.
inline constexpr std::int64_t kBlockSizes[] = {4, 16, 64, 128};

/// z = x A, A block-diagonal with blocks of `block` channels, so that the choice of two in z costs
/// the layers' outputs least. Per block b, with Q = X_b^T X_b of `second_moment` [K, K] and
/// V = sum of W_b^T W_b over `weights` (each [N_i, K], all layers that read x):
///
///   B = V^(1/2), E = eigenvectors of B Q B, A = B E, its axes in snake_order of the eigenvalues.
///
/// With V = I that is a KLT. A is divided by the mean of all B's diagonals, so that z keeps x's
/// scale, and rounded to bf16, the type that it is stored in; InputTransform::weight_for_z inverts
/// the rounded one. Where weights leave directions unused V is damped by 1e-4 of its mean diagonal.
/// Throws Error if `block` is none of kBlockSizes or does not divide K.
InputTransform block_transform(const torch::Tensor& second_moment,
                               const std::vector<torch::Tensor>& weights, std::int64_t block);

/// c_j = ||W_:j|| over all `weights` together, divided by its mean and rounded to bf16: |c_j x_j|
/// weighs a channel by what it adds to the outputs. Channels that no weight reads get 1e-3, and all
/// get 1 where all weights are zero.
InputTransform column_norm_transform(const std::vector<torch::Tensor>& weights);

/// The same, and channels dealt out to groups in snake_order of E[x_j^2] c_j^2.
InputTransform column_norm_transform_permuted(const torch::Tensor& second_moment,
                                              const std::vector<torch::Tensor>& weights);

}  // namespace rtlynx
