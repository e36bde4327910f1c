// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/fused_double_block.h"
#include "models/qwen_image/transformer.h"

namespace rtlynx {

/// Qwen-Image's forward pass on the fused path, as FluxFused runs FLUX.1's. The plain path,
/// QwenImageTransformer::forward, is its reference: the two differ in where they round. Of the last
/// block's text stream only what reaches the image runs.
///
/// No gradients; no host synchronisation, so that a pass can be captured in a CUDA graph. On a GPU
/// in f16 or bf16; on the CPU, where it serves tests, in any type.
class QwenImageFused {
 public:
  /// Reads how the model's layers run now; a layer that changes afterwards needs a new one.
  explicit QwenImageFused(QwenImageTransformer model);

  /// `rotation` as rotation() gives it for these inputs.
  /// -> velocity [B, I, patch_size^2 * out_channels].
  torch::Tensor forward(const QwenImageInputs& inputs, const torch::Tensor& rotation);

  /// [T + I, head_dim / 2, 2] fp32, on the inputs' device.
  torch::Tensor rotation(const QwenImageInputs& inputs) const;

 private:
  QwenImageTransformer model_;
  std::vector<FusedDoubleBlock> blocks_;
};

}  // namespace rtlynx
