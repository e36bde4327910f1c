// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

// Layers of the dense models around the transformer (text encoders, VAEs). They carry the parameter
// names of torch.nn, which leave the values to whoever loads them: torch's own layers would
// first draw gigabytes of random numbers.

/// x [..., K] -> x W^T + b [..., N], with `weight` [N, K] and, unless left out, `bias` [N].
class PlainLinearImpl : public torch::nn::Module {
 public:
  PlainLinearImpl(std::int64_t in_features, std::int64_t out_features, bool with_bias,
                  const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  torch::Tensor weight;  // [N, K]
  torch::Tensor bias;    // [N], or undefined
};
TORCH_MODULE(PlainLinear);

/// Rows of a table, `weight` [rows, d]. The table stays on the CPU whatever the device of `options`
/// is, meta excepted: a prompt reads a few hundred rows of a table that can take a gigabyte.
class TokenTableImpl : public torch::nn::Module {
 public:
  TokenTableImpl(std::int64_t rows, std::int64_t dim, const torch::TensorOptions& options);

  /// ids [...] (int64, on the CPU) -> [..., d] on the device of the constructor's options. Throws
  /// Error for an id outside the table.
  torch::Tensor forward(const torch::Tensor& ids);

  torch::Tensor weight;  // [rows, d]

 private:
  torch::Device device_;
};
TORCH_MODULE(TokenTable);

/// LayerNorm over the last dimension with `weight` and `bias`.
class PlainLayerNormImpl : public torch::nn::Module {
 public:
  PlainLayerNormImpl(std::int64_t dim, double eps, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  torch::Tensor weight, bias;  // [dim]

 private:
  double eps_;
};
TORCH_MODULE(PlainLayerNorm);

/// RMSNorm over the last dimension as language models compute it: normalized in fp32, rounded to
/// x's type, then multiplied by `weight`.
class PlainRmsNormImpl : public torch::nn::Module {
 public:
  PlainRmsNormImpl(std::int64_t dim, double eps, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  torch::Tensor weight;  // [dim]

 private:
  double eps_;
};
TORCH_MODULE(PlainRmsNorm);

/// Throws Error that names `stage` unless every value of x is finite. Waits for the device.
void require_finite(const torch::Tensor& x, const char* stage);

}  // namespace rtlynx
