// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/input_group.h"
#include "models/z_image/transformer.h"

namespace rtlynx {

/// Z-Image's forward pass on the fused path: every input is packed once for all layers that read
/// it, norm and scale run inside the pack, SwiGLU inside that of w2; post-norm, gate, residual and
/// the next norm are one row kernel. Dense layers use the same row kernels around dense products.
/// The plain path, ZImageTransformer::forward, is its reference: the two differ in where they
/// round.
///
/// No gradients; no host synchronisation, so that a pass can be captured in a CUDA graph. On a GPU
/// in f16 or bf16; on the CPU, where it serves tests, in any type.
class ZImageFused {
 public:
  /// Reads how the model's layers run now; a layer that changes afterwards needs a new one.
  explicit ZImageFused(ZImageTransformer model);

  /// `rotation` as rotation() gives it for these inputs. -> [B, in_channels, H, W].
  torch::Tensor forward(const ZImageInputs& inputs, const torch::Tensor& rotation);

  /// [B, S, head_dim / 2, 2] fp32 on the latents' device. It depends on the size of the latents and
  /// on caption_tokens alone: make it before a graph is captured.
  torch::Tensor rotation(const ZImageInputs& inputs) const;

 private:
  /// A residual stream and what is known of its norm.
  struct Stream {
    torch::Tensor h;        // [B, S, d]
    torch::Tensor moments;  // [B, S, 2]
    torch::Tensor normed;   // the next group's input, if one of its layers reads it as it is
  };
  struct Block {
    InputGroup qkv, out, gate_up, down;
    torch::Tensor norm_q, norm_k;
    torch::Tensor attention_norm1, attention_norm2, ffn_norm1, ffn_norm2;
    SparseLinear modulation{nullptr};  // none in the context refiner
  };
  /// A norm's weight [d], its scale [B, d] if it has one, and who reads what it gives.
  struct Next {
    const InputGroup* group;
    torch::Tensor weight, scale;
  };
  /// What a block does with a stream: scale and gate of attention, then of the MLP [B, d], or none.
  struct Modulation {
    torch::Tensor attention_scale, attention_gate, mlp_scale, mlp_gate;
  };
  /// How the tokens of a stream turn, and how many of each image attend.
  struct Tokens {
    torch::Tensor rotation;             // [B * S, head_dim / 2, 2]
    std::vector<std::int64_t> attends;  // of each image; empty: all
  };

  std::vector<Block> blocks_named(const char* list, std::int64_t count) const;

  /// x through all blocks.
  torch::Tensor run(const std::vector<Block>& blocks, const torch::Tensor& x,
                    const torch::Tensor& temb, const Tokens& tokens) const;
  torch::Tensor attend(const Block& block, const std::vector<torch::Tensor>& qkv,
                       const Tokens& tokens) const;

  Stream begin(const torch::Tensor& h, const Next& next) const;
  /// h + tanh(gate) * norm(y); without a gate h + norm(y).
  Stream advance(const Stream& stream, const torch::Tensor& y, const torch::Tensor& post_weight,
                 const torch::Tensor& gate, const Next& next) const;
  GroupInput input(const Stream& stream, const Next& next) const;

  ZImageTransformer model_;
  std::vector<Block> noise_refiner_, context_refiner_, layers_;
};

}  // namespace rtlynx
