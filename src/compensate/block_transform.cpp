// SPDX-License-Identifier: Apache-2.0
#include "compensate/block_transform.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/weight24.h"

namespace rtlynx {
namespace {

constexpr double kWeightDamping = 1e-4;
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

// The diagonal blocks [K/g, g, g] of [K, K].
torch::Tensor diagonal_blocks(const torch::Tensor& matrix, std::int64_t block) {
  const torch::Tensor tiles =
      matrix.view({-1, block, matrix.size(1) / block, block});  // [K/g, g, K/g, g]
  return tiles.diagonal(/*offset=*/0, 0, 2).permute({2, 0, 1});
}

// The sum over all weights of W_b^T W_b: [K/g, g, g], damped.
torch::Tensor block_grams(const std::vector<torch::Tensor>& weights, std::int64_t block,
                          const torch::TensorOptions& options) {
  torch::Tensor sum;
  for (const torch::Tensor& weight : weights) {
    const torch::Tensor columns =
        weight.detach().to(options).unflatten(1, {-1, block}).transpose(0, 1);  // [K/g, N, g]
    const torch::Tensor gram = torch::bmm(columns.transpose(1, 2), columns);
    sum = sum.defined() ? sum + gram : gram;
  }
  const torch::Tensor mean = sum.diagonal(0, 1, 2).mean();
  const torch::Tensor identity = torch::eye(block, options);
  // Weights of zeros do not tell channels apart.
  return mean.item<double>() > 0 ? sum + kWeightDamping * mean * identity : sum + identity;
}

torch::Tensor square_roots(const torch::Tensor& positive) {
  const auto [values, vectors] = torch::linalg_eigh(positive);
  return torch::matmul(vectors * values.clamp_min(0).sqrt().unsqueeze(1), vectors.transpose(1, 2));
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
  check_moment(second_moment, weights);
  const std::int64_t channels = second_moment.size(0);
  if (std::find(std::begin(kBlockSizes), std::end(kBlockSizes), block) == std::end(kBlockSizes) ||
      channels % block != 0) {
    fail("block_transform",
         "blocks of 4, 16, 64 or 128 channels that divide " + std::to_string(channels),
         std::to_string(block));
  }
  const torch::Tensor moment = second_moment.to(torch::kFloat64);
  const torch::Tensor roots = square_roots(block_grams(weights, block, moment.options()));
  const torch::Tensor inner = torch::bmm(torch::bmm(roots, diagonal_blocks(moment, block)), roots);
  const auto [values, vectors] = torch::linalg_eigh(0.5 * (inner + inner.transpose(1, 2)));
  const torch::Tensor axes = torch::bmm(roots, vectors) / roots.diagonal(0, 1, 2).mean();
  torch::Tensor ordered = torch::empty_like(axes);
  for (std::int64_t b = 0; b < axes.size(0); ++b) {
    ordered[b] = axes[b].index_select(1, snake_order(values[b]));
  }
  InputTransform transform;
  transform.blocks = rounded(ordered);
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
