// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/flux/transformer.h"
#include "models/fused_double_block.h"

namespace rtlynx {

/// FLUX.1's forward pass on the fused path: every input is packed once for all layers that read it,
/// norm and modulation run inside the pack, gate and residual with the next norm's moments, GELU in
/// the epilogue. Dense layers use the same row kernels around dense products. The plain path,
/// FluxTransformer::forward, is its reference: the two differ in where they round.
///
/// No gradients; no host synchronisation, so that a pass can be captured in a CUDA graph. On a GPU
/// in f16 or bf16; on the CPU, where it serves tests, in any type.
class FluxFused {
 public:
  /// Reads how the model's layers run now; a layer that changes afterwards needs a new one.
  explicit FluxFused(FluxTransformer model);

  /// `rotation` [T + I, head_dim / 2, 2] fp32, as rotation() gives it for these positions.
  /// -> velocity [B, I, patch_size^2 * out_channels].
  torch::Tensor forward(const FluxInputs& inputs, const torch::Tensor& rotation);

  torch::Tensor rotation(const torch::Tensor& txt_ids, const torch::Tensor& img_ids) const;

 private:
  struct SingleBlock {
    InputGroup in, out;
    torch::Tensor norm_q, norm_k;
    SparseLinear modulation{nullptr};
  };
  torch::Tensor run_single(const SingleBlock& block, const FusedStream& joint, const NextNorm& own,
                           const torch::Tensor& rotation) const;

  FluxTransformer model_;
  std::vector<FusedDoubleBlock> double_blocks_;
  std::vector<SingleBlock> single_blocks_;
};

}  // namespace rtlynx
