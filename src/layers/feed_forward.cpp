// SPDX-License-Identifier: Apache-2.0
#include "layers/feed_forward.h"

namespace rtlynx {

GeluProjectionImpl::GeluProjectionImpl(std::int64_t in_features, std::int64_t out_features,
                                       const torch::TensorOptions& options) {
  proj = register_module("proj", SparseLinear(in_features, out_features, options));
}

torch::Tensor GeluProjectionImpl::forward(const torch::Tensor& x) {
  return torch::gelu(proj(x), "tanh");
}

FeedForwardImpl::FeedForwardImpl(std::int64_t dim, const torch::TensorOptions& options) {
  up = GeluProjection(dim, 4 * dim, options);
  down = SparseLinear(4 * dim, dim, options);
  // Slot 1 is diffusers' dropout, which has no parameters and does nothing at inference.
  register_module("net", torch::nn::ModuleList(up, torch::nn::Identity(), down));
}

torch::Tensor FeedForwardImpl::forward(const torch::Tensor& x) { return down(up(x)); }

}  // namespace rtlynx
