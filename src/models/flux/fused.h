// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "layers/input_group.h"
#include "models/flux/transformer.h"

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
  /// A residual stream and what is known of its norm.
  struct Stream {
    torch::Tensor h;        // [B, S, d]
    torch::Tensor moments;  // [B, S, 2]
    torch::Tensor normed;   // the next group's input, if one of its layers reads it as it is
  };
  /// One stream's layers of a double block.
  struct Side {
    InputGroup qkv, out, up, down;
    torch::Tensor norm_q, norm_k;
    SparseLinear modulation{nullptr};
  };
  struct DoubleBlock {
    Side text, image;
  };
  struct SingleBlock {
    InputGroup in, out;
    torch::Tensor norm_q, norm_k;
    SparseLinear modulation{nullptr};
  };
  /// A norm's modulation [B, d], and who reads what it gives.
  struct Next {
    const InputGroup* group;
    torch::Tensor scale, shift;
  };

  static Stream begin(const torch::Tensor& h, const Next& next);
  /// h + gate * y.
  static Stream advance(const Stream& stream, const torch::Tensor& y, const torch::Tensor& gate,
                        const Next& next);
  static GroupInput input(const Stream& stream, const Next& next);

  torch::Tensor run_single(const SingleBlock& block, const Stream& joint, const Next& own,
                           const torch::Tensor& rotation) const;

  FluxTransformer model_;
  std::vector<DoubleBlock> double_blocks_;
  std::vector<SingleBlock> single_blocks_;
};

}  // namespace rtlynx
