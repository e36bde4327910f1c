// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "layers/sparse_linear.h"

namespace rtlynx {

/// Rotations e^(i angle) for positions ids [S, axes] -> complex64 [S, head_dim / 2]: axis i turns
/// axes_dims[i] channels; frequencies and angles in `precision` (RoFormer, arXiv 2104.09864).
torch::Tensor rotary_table(const torch::Tensor& ids, const std::vector<std::int64_t>& axes_dims,
                           double theta, torch::ScalarType precision = torch::kFloat64);

/// Turns x [B, S, heads, head_dim] in fp32; adjacent channels (2k, 2k+1) are the real and imaginary
/// part of one number. The result has x's dtype.
torch::Tensor apply_rotary(const torch::Tensor& x, const torch::Tensor& table);

/// RMSNorm over the last dimension with a weight, eps 1e-6.
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(std::int64_t dim, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  torch::Tensor weight;  // [dim]
};
TORCH_MODULE(RmsNorm);

/// Softmax attention of normed, rotated q and k with v, all [B, S, heads, head_dim] ->
/// [B, S, heads * head_dim]. `mask` [B, 1, 1, S] bool, the tokens that are attended to; all without
/// one.
torch::Tensor attend(const torch::Tensor& query, const torch::Tensor& key,
                     const torch::Tensor& value, const torch::Tensor& table,
                     const torch::Tensor& mask = {});

/// [B, S, heads * head_dim] -> [B, S, heads, head_dim].
torch::Tensor split_heads(const torch::Tensor& x, std::int64_t head_dim);

}  // namespace rtlynx
