// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "layers/sparse_linear.h"

namespace rtlynx {

/// LayerNorm over the last dimension, without parameters, eps 1e-6 (all FLUX block norms).
torch::Tensor layer_norm(const torch::Tensor& x);

/// x * (1 + scale) + shift, per image: x [B, S, d], scale and shift [B, d] -> [B, S, d] of the
/// modulation's dtype.
torch::Tensor modulate(const torch::Tensor& x, const torch::Tensor& scale,
                       const torch::Tensor& shift);

/// SiLU, then a Linear to `parts` vectors of width d: the adaLN-Zero modulation of the DiT paper
/// (arXiv 2212.09748). The Linear stays dense: it sees one row per image.
class ModulationImpl : public torch::nn::Module {
 public:
  ModulationImpl(std::int64_t dim, int parts, const torch::TensorOptions& options);

  /// temb [B, d] -> `parts` tensors [B, d], in the checkpoint's order.
  std::vector<torch::Tensor> forward(const torch::Tensor& temb);

  SparseLinear linear{nullptr};

 private:
  int parts_;
};
TORCH_MODULE(Modulation);

}  // namespace rtlynx
