// SPDX-License-Identifier: Apache-2.0
#include "layers/embedding.h"

#include <cmath>

namespace rtlynx {

torch::Tensor sinusoidal_embedding(const torch::Tensor& t, std::int64_t channels, double factor) {
  const std::int64_t half = channels / 2;
  const auto options = torch::TensorOptions().dtype(torch::kFloat32).device(t.device());
  const torch::Tensor exponent =
      torch::arange(0, half, options) * -std::log(10000.0) / static_cast<double>(half);
  const torch::Tensor angle =
      factor * (t.to(torch::kFloat32).unsqueeze(1) * torch::exp(exponent).unsqueeze(0));
  return torch::cat({torch::cos(angle), torch::sin(angle)}, /*dim=*/-1);
}

MlpEmbedderImpl::MlpEmbedderImpl(std::int64_t in_features, std::int64_t dim,
                                 const torch::TensorOptions& options) {
  linear_1 = register_module("linear_1", SparseLinear(in_features, dim, options));
  linear_2 = register_module("linear_2", SparseLinear(dim, dim, options));
}

torch::Tensor MlpEmbedderImpl::forward(const torch::Tensor& x) {
  return linear_2(torch::silu(linear_1(x)));
}

}  // namespace rtlynx
