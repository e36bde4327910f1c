// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace rtlynx {

/// How a Linear treats its input x of shape [..., K] (x~ = the 2 largest of every 4 channels).
enum class LinearMode {
  dense,          ///< y = x W^T + b
  naive,          ///< y = x~ W^T + b
  norm,           ///< y = s x~ W^T + b, with s = ||x|| / ||x~|| per token
  norm_low_rank,  ///< y = s x~ W^T + (x L_down^T) L_up^T + b
};

/// "dense", "naive", "norm" or "norm+low-rank".
std::string_view to_string(LinearMode mode);

/// The inverse of to_string. Throws UsageError for any other text.
LinearMode linear_mode_from_string(std::string_view text);

/// A Linear whose input can be sparsified online to the 2:4 pattern.
///
/// Parameters carry the names and shapes of torch.nn.Linear: `weight` [N, K] and `bias` [N]. They
/// are left uninitialised; a model loads or initialises them.
class SparseLinearImpl : public torch::nn::Module {
 public:
  SparseLinearImpl(std::int64_t in_features, std::int64_t out_features,
                   const torch::TensorOptions& options = {}, bool with_bias = true);

  /// x [..., K] -> [..., N], of x's dtype.
  torch::Tensor forward(const torch::Tensor& x);

  /// Throws Error for norm_low_rank before set_low_rank, and for a sparse mode if 4 does not
  /// divide K.
  void set_mode(LinearMode mode);
  LinearMode mode() const { return mode_; }

  /// Lets the sparse modes run the dense one for calls in which it is faster on this GPU
  /// (ops::linear24_auto). Off at first: studies measure what sparsity does to a picture.
  void set_dense_where_faster(bool value) { dense_where_faster_ = value; }

  /// down [r, K], up [N, r]; both of the weight's dtype and device.
  void set_low_rank(const torch::Tensor& down, const torch::Tensor& up);

  /// Called with every input x [..., K] before the layer runs, in any mode; for calibration and
  /// analysis. An empty function removes it.
  void set_observer(std::function<void(const torch::Tensor& x)> observer) {
    observer_ = std::move(observer);
  }

  std::int64_t in_features() const { return weight.size(1); }
  std::int64_t out_features() const { return weight.size(0); }

  torch::Tensor weight;  // [N, K]
  torch::Tensor bias;    // [N], or undefined

 private:
  LinearMode mode_ = LinearMode::dense;
  bool dense_where_faster_ = false;
  torch::Tensor low_rank_down_;  // [r, K]
  torch::Tensor low_rank_up_;    // [N, r]
  std::function<void(const torch::Tensor&)> observer_;
};
TORCH_MODULE(SparseLinear);

}  // namespace rtlynx
