// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layers/sparse_linear.h"

namespace rtlynx {

/// Sinusoidal embedding [cos, sin] of t [B], times `factor`, into `channels`, max period 10000, in
/// fp32 -> [B, channels] (DDPM, arXiv 2006.11239; the halves in diffusers' flip_sin_to_cos order).
torch::Tensor sinusoidal_embedding(const torch::Tensor& t, std::int64_t channels,
                                   double factor = 1);

/// Linear, SiLU, Linear: `linear_1`, `linear_2` as in diffusers' TimestepEmbedding.
class MlpEmbedderImpl : public torch::nn::Module {
 public:
  MlpEmbedderImpl(std::int64_t in_features, std::int64_t dim, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  SparseLinear linear_1{nullptr};
  SparseLinear linear_2{nullptr};
};
TORCH_MODULE(MlpEmbedder);

}  // namespace rtlynx
