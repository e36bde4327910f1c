// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "base/libtorch.h"
#include "layers/compensation24.h"
#include "layers/linear_form.h"
#include "layers/replacement.h"
#include "ops/ops.h"

namespace rtlynx {

/// How a Linear treats its input x of shape [..., K] (x~ = the 2 largest of every 4 channels).
enum class LinearMode {
  dense,        ///< y = x W^T + b
  naive,        ///< y = x~ W^T + b
  norm,         ///< y = s x~ W^T + b, with s = ||x|| / ||x~|| per token
  compensated,  ///< y = s z~ W'^T + (z L_down^T) L_up^T + b, as its Compensation24 says
  replaced,     ///< what a rival made of W, the same for all tokens, as its Replacement says
};

/// The enumerator's name.
std::string_view to_string(LinearMode mode);

/// The inverse of to_string. Throws UsageError for any other text.
LinearMode linear_mode_from_string(std::string_view text);

/// A Linear whose input can be sparsified online to the 2:4 pattern. Every mode passes gradients to
/// x and to the weights that it reads.
///
/// Parameters carry the names and shapes of torch.nn.Linear: `weight` [N, K] and `bias` [N]. They
/// are left uninitialised; a model loads or initialises them.
class SparseLinearImpl : public torch::nn::Module {
 public:
  SparseLinearImpl(std::int64_t in_features, std::int64_t out_features,
                   const torch::TensorOptions& options = {}, bool with_bias = true);

  /// x [..., K] -> [..., N], of x's dtype.
  torch::Tensor forward(const torch::Tensor& x);

  /// Throws Error for `compensated` and `replaced` before their values are set, and for a mode
  /// that chooses channels if 16 does not divide K.
  void set_mode(LinearMode mode);
  LinearMode mode() const { return mode_; }

  /// How the layer runs. `replaced` with a sparse or another weight is not a sparse activation.
  LinearForm form() const;

  /// What `compensated` does, converted to the weight's dtype and device, with W A^-T where a
  /// transform comes without a weight; `weight` itself stays as it is. Throws Error if it does not
  /// fit the layer.
  void set_compensation(const Compensation24& compensation);

  /// The tensors in use, not copies, or null. Training makes them require gradients.
  const Compensation24* compensation() const;

  /// What `replaced` does, converted to the weight's dtype and device. Throws Error if it does not
  /// fit the layer.
  void set_replacement(const Replacement& replacement);

  /// What is set, or null.
  const Replacement* replacement() const;

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
  torch::Tensor forward_sparse(const torch::Tensor& x, const ops::Linear24Weights& weights,
                               bool norm) const;
  /// z [..., K]. It has no gradient.
  torch::Tensor forward_e4m3(const torch::Tensor& z, const ops::Linear24Weights& weights,
                             bool norm) const;
  torch::Tensor forward_compensated(const torch::Tensor& x) const;

  LinearMode mode_ = LinearMode::dense;
  CompensationHolder compensation_{nullptr};
  ReplacementHolder replacement_{nullptr};
  std::function<void(const torch::Tensor&)> observer_;
};
TORCH_MODULE(SparseLinear);

}  // namespace rtlynx
