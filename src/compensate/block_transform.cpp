// SPDX-License-Identifier: Apache-2.0
#include "compensate/block_transform.h"

#include <string>

#include "base/error.h"
#include "compensate/weight24.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

constexpr double kLeastColumnNorm = 1e-3;

torch::Tensor rounded(const torch::Tensor& values) { return values.to(torch::kBFloat16); }

void check_weights(const std::vector<torch::Tensor>& weights) {
  require(!weights.empty(), "transform", "at least one weight", "none");
  for (const torch::Tensor& weight : weights) {
    require(weight.dim() == 2 && weight.size(1) == weights.front().size(1), "transform",
            "weights [N, K] of one K", "others");
  }
}

void check_moment(const torch::Tensor& second_moment, const std::vector<torch::Tensor>& weights) {
  check_weights(weights);
  const std::int64_t channels = weights.front().size(1);
  require(second_moment.sizes() == torch::IntArrayRef({channels, channels}), "transform",
          "a second moment [" + std::to_string(channels) + ", " + std::to_string(channels) + "]",
          std::to_string(second_moment.size(0)) + " channels");
}

// ||W_:j|| over all weights, [K] fp64, as it is stored.
torch::Tensor column_norms(const std::vector<torch::Tensor>& weights) {
  check_weights(weights);
  torch::Tensor squares;
  for (const torch::Tensor& weight : weights) {
    const torch::Tensor own = weight.detach().to(torch::kFloat64).square().sum(0);
    squares = squares.defined() ? squares + own : own;
  }
  const torch::Tensor norms = squares.sqrt();
  const torch::Tensor mean = norms.mean();
  if (mean.item<double>() == 0) return rounded(torch::ones_like(norms));
  return rounded((norms / mean).clamp_min(kLeastColumnNorm));
}

}  // namespace

InputTransform block_transform(const torch::Tensor& second_moment,
                               const std::vector<torch::Tensor>& weights, std::int64_t block) {
  static const auto op = ops::find_op<at::Tensor(const at::Tensor&, at::TensorList, std::int64_t)>(
      "rtlynx::block_transform");
  InputTransform transform;
  transform.blocks = op.call(second_moment, weights, block);
  return transform;
}

InputTransform column_norm_transform(const std::vector<torch::Tensor>& weights) {
  InputTransform transform;
  transform.scale = column_norms(weights);
  return transform;
}

InputTransform column_norm_transform_permuted(const torch::Tensor& second_moment,
                                              const std::vector<torch::Tensor>& weights) {
  check_moment(second_moment, weights);
  InputTransform transform = column_norm_transform(weights);
  const torch::Tensor scale = transform.scale.to(second_moment.options());
  transform.permutation = snake_order(second_moment.diagonal() * scale.square());
  return transform;
}

}  // namespace rtlynx
