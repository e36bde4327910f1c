// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

// Parts that the autoencoders are made of. Tensors are [B, C, H, W]. Nothing here is trained: the
// layers overwrite what they have made themselves.

/// The widest layer that a configuration may ask for.
constexpr std::int64_t kMaxChannels = 1 << 16;

/// A square convolution with `weight` [out, in, kernel, kernel] and, unless left out, `bias` [out],
/// not initialised.
struct ConvShape {
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t kernel = 3;  ///< 3 keeps the size (padding 1), 1 as well (no padding)
  bool with_bias = true;
};

class VaeConvImpl : public torch::nn::Module {
 public:
  VaeConvImpl(const ConvShape& shape, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  /// Halves the size: stride 2, after a row and a column of zeros at the bottom and the right.
  torch::Tensor halve(const torch::Tensor& x);

  torch::Tensor weight;
  torch::Tensor bias;  // or undefined
};
TORCH_MODULE(VaeConv);

/// GroupNorm with `weight` and `bias` [C]; or, for groups = 0, every pixel's channels divided by
/// their root mean square, with `gamma` [C, 1, 1].
class VaeNormImpl : public torch::nn::Module {
 public:
  VaeNormImpl(std::int64_t channels, std::int64_t groups, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  std::int64_t groups_;
  torch::Tensor weight_, bias_, gamma_;
};
TORCH_MODULE(VaeNorm);

/// x (or `conv_shortcut` of it) + conv2(silu(norm2(conv1(silu(norm1(x)))))).
class VaeResnetImpl : public torch::nn::Module {
 public:
  VaeResnetImpl(std::int64_t in_channels, std::int64_t out_channels, std::int64_t groups,
                const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  VaeNorm norm1_{nullptr}, norm2_{nullptr};
  VaeConv conv1_{nullptr}, conv2_{nullptr}, conv_shortcut_{nullptr};
};
TORCH_MODULE(VaeResnet);

/// Softmax attention with one head among pixels, all [B, N, C] -> [B, N, C]. Queries are taken so
/// many at a time that their scores stay below `max_scores` numbers: no fast kernel has heads this
/// wide, and at 2048^2 all scores at once would take 8.6 GB in bf16.
torch::Tensor attend_pixels(const torch::Tensor& query, const torch::Tensor& key,
                            const torch::Tensor& value,
                            std::int64_t max_scores = std::int64_t{1} << 26);

/// SiLU in the place of x, which nobody else may hold.
torch::Tensor silu_over(torch::Tensor x);

/// Every pixel four times.
torch::Tensor double_size(const torch::Tensor& x);

}  // namespace rtlynx
