// SPDX-License-Identifier: Apache-2.0
#include "models/plain_layers.h"

#include <string>

#include "base/error.h"

namespace rtlynx {

PlainLinearImpl::PlainLinearImpl(std::int64_t in_features, std::int64_t out_features,
                                 bool with_bias, const torch::TensorOptions& options) {
  weight = register_parameter("weight", torch::empty({out_features, in_features}, options));
  if (with_bias) bias = register_parameter("bias", torch::empty({out_features}, options));
}

torch::Tensor PlainLinearImpl::forward(const torch::Tensor& x) {
  return torch::linear(x, weight, bias);
}

TokenTableImpl::TokenTableImpl(std::int64_t rows, std::int64_t dim,
                               const torch::TensorOptions& options)
    : device_(options.device()) {
  const torch::Device place = device_.is_meta() ? torch::kMeta : torch::kCPU;
  weight = register_parameter("weight", torch::empty({rows, dim}, options.device(place)));
}

torch::Tensor TokenTableImpl::forward(const torch::Tensor& ids) {
  if (ids.numel() > 0) {
    const auto [smallest, largest] = torch::aminmax(ids);
    const auto rows = weight.size(0);
    if (smallest.item<std::int64_t>() < 0 || largest.item<std::int64_t>() >= rows) {
      fail("token table", "ids from 0 to " + std::to_string(rows - 1),
           std::to_string(smallest.item<std::int64_t>()) + " to " +
               std::to_string(largest.item<std::int64_t>()));
    }
  }
  return torch::embedding(weight, ids).to(device_);
}

PlainLayerNormImpl::PlainLayerNormImpl(std::int64_t dim, double eps,
                                       const torch::TensorOptions& options)
    : eps_(eps) {
  weight = register_parameter("weight", torch::empty({dim}, options));
  bias = register_parameter("bias", torch::empty({dim}, options));
}

torch::Tensor PlainLayerNormImpl::forward(const torch::Tensor& x) {
  return torch::layer_norm(x, {x.size(-1)}, weight, bias, eps_);
}

PlainRmsNormImpl::PlainRmsNormImpl(std::int64_t dim, double eps,
                                   const torch::TensorOptions& options)
    : eps_(eps) {
  weight = register_parameter("weight", torch::empty({dim}, options));
}

torch::Tensor PlainRmsNormImpl::forward(const torch::Tensor& x) {
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor mean_square = wide.square().mean(-1, /*keepdim=*/true);
  return weight * (wide * torch::rsqrt(mean_square + eps_)).to(x.scalar_type());
}

void require_finite(const torch::Tensor& x, const char* stage) {
  require(x.isfinite().all().item<bool>(), stage, "finite values", "infinity or NaN");
}

}  // namespace rtlynx
