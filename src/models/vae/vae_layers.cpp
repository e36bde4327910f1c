// SPDX-License-Identifier: Apache-2.0
#include "models/vae/vae_layers.h"

#include <algorithm>
#include <cmath>

namespace rtlynx {
namespace {

constexpr double kGroupEps = 1e-6;
constexpr double kSmallestNorm = 1e-12;

}  // namespace

VaeConvImpl::VaeConvImpl(const ConvShape& shape, const torch::TensorOptions& options) {
  weight = register_parameter(
      "weight", torch::empty({shape.out, shape.in, shape.kernel, shape.kernel}, options));
  if (shape.with_bias) bias = register_parameter("bias", torch::empty({shape.out}, options));
}

torch::Tensor VaeConvImpl::forward(const torch::Tensor& x) {
  return torch::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/weight.size(2) / 2);
}

torch::Tensor VaeConvImpl::halve(const torch::Tensor& x) {
  return torch::conv2d(torch::constant_pad_nd(x, {0, 1, 0, 1}), weight, bias, /*stride=*/2);
}

VaeNormImpl::VaeNormImpl(std::int64_t channels, std::int64_t groups,
                         const torch::TensorOptions& options)
    : groups_(groups) {
  if (groups > 0) {
    weight_ = register_parameter("weight", torch::empty({channels}, options));
    bias_ = register_parameter("bias", torch::empty({channels}, options));
  } else {
    gamma_ = register_parameter("gamma", torch::empty({channels, 1, 1}, options));
  }
}

torch::Tensor VaeNormImpl::forward(const torch::Tensor& x) {
  if (groups_ > 0) return torch::group_norm(x, groups_, weight_, bias_, kGroupEps);
  const torch::Tensor length =
      torch::linalg_vector_norm(x, 2, {1}, /*keepdim=*/true, torch::kFloat32);
  const torch::Tensor scale = gamma_ * std::sqrt(static_cast<double>(x.size(1)));
  return (x / length.clamp_min(kSmallestNorm)).to(x.scalar_type()).mul_(scale);
}

VaeResnetImpl::VaeResnetImpl(std::int64_t in_channels, std::int64_t out_channels,
                             std::int64_t groups, const torch::TensorOptions& options) {
  norm1_ = register_module("norm1", VaeNorm(in_channels, groups, options));
  conv1_ =
      register_module("conv1", VaeConv(ConvShape{.in = in_channels, .out = out_channels}, options));
  norm2_ = register_module("norm2", VaeNorm(out_channels, groups, options));
  conv2_ = register_module("conv2",
                           VaeConv(ConvShape{.in = out_channels, .out = out_channels}, options));
  if (in_channels == out_channels) return;
  const ConvShape shortcut{.in = in_channels, .out = out_channels, .kernel = 1};
  conv_shortcut_ = register_module("conv_shortcut", VaeConv(shortcut, options));
}

torch::Tensor VaeResnetImpl::forward(const torch::Tensor& x) {
  const torch::Tensor middle = conv1_(silu_over(norm1_(x)));
  const torch::Tensor update = conv2_(silu_over(norm2_(middle)));
  return update.add_(conv_shortcut_.is_empty() ? x : conv_shortcut_(x));
}

torch::Tensor attend_pixels(const torch::Tensor& query, const torch::Tensor& key,
                            const torch::Tensor& value, std::int64_t max_scores) {
  const std::int64_t pixels = query.size(1);
  const std::int64_t rows = std::clamp<std::int64_t>(max_scores / key.size(1), 1, pixels);
  const torch::Tensor keys = key.unsqueeze(1);  // [B, 1, N, C]: one head
  const torch::Tensor values = value.unsqueeze(1);
  std::vector<torch::Tensor> parts;
  for (std::int64_t row = 0; row < pixels; row += rows) {
    const torch::Tensor queries = query.narrow(1, row, std::min(rows, pixels - row)).unsqueeze(1);
    parts.push_back(torch::scaled_dot_product_attention(queries, keys, values).squeeze(1));
  }
  return parts.size() == 1 ? parts.front() : torch::cat(parts, 1);
}

torch::Tensor silu_over(torch::Tensor x) { return torch::silu_(x); }

torch::Tensor double_size(const torch::Tensor& x) {
  return torch::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
}

}  // namespace rtlynx
