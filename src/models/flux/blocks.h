// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layers/modulation.h"
#include "models/double_block.h"
#include "models/flux/config.h"

namespace rtlynx {

/// Single-stream block: attention and MLP read one normed input and share the output projection.
class FluxSingleBlockImpl : public torch::nn::Module {
 public:
  FluxSingleBlockImpl(const FluxConfig& config, const torch::TensorOptions& options);

  /// x [B, T + I, d] = [text, image].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& temb,
                        const torch::Tensor& table);

 private:
  Modulation norm_{nullptr};
  BlockAttention attn_{nullptr};
  SparseLinear proj_mlp_{nullptr}, proj_out_{nullptr};
};
TORCH_MODULE(FluxSingleBlock);

}  // namespace rtlynx
