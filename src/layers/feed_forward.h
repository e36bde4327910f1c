// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layers/sparse_linear.h"

namespace rtlynx {

/// The first half of diffusers' FeedForward with activation "gelu-approximate": Linear, then GELU
/// with the tanh formula.
class GeluProjectionImpl : public torch::nn::Module {
 public:
  GeluProjectionImpl(std::int64_t in_features, std::int64_t out_features,
                     const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  SparseLinear proj{nullptr};
};
TORCH_MODULE(GeluProjection);

/// x [..., d] -> Linear(4 d) -> GELU tanh -> Linear(d). Parameter names as in diffusers:
/// `net.0.proj` (up) and `net.2` (down).
class FeedForwardImpl : public torch::nn::Module {
 public:
  FeedForwardImpl(std::int64_t dim, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  GeluProjection up{nullptr};
  SparseLinear down{nullptr};
};
TORCH_MODULE(FeedForward);

}  // namespace rtlynx
