// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "layers/attention.h"
#include "layers/feed_forward.h"
#include "models/double_block_groups.h"

namespace rtlynx {

/// The two token streams of a double block.
struct JointStreams {
  torch::Tensor text;   // [B, T, d]
  torch::Tensor image;  // [B, I, d]
};

/// q, k and v projections with RMS-normed q and k, and, for joint attention, the same for text.
class BlockAttentionImpl : public torch::nn::Module {
 public:
  enum class Kind { joint, single };
  BlockAttentionImpl(std::int64_t dim, std::int64_t head_dim, Kind kind,
                     const torch::TensorOptions& options);

  /// Joint attention over [text, image], each stream through its own projections. `mask`
  /// [B, 1, 1, T + I] bool, the tokens that are attended to; all without one.
  JointStreams forward(const JointStreams& normed, const torch::Tensor& table,
                       const torch::Tensor& mask);

  /// Attention of one stream x [B, S, d], without output projection -> [B, S, d].
  torch::Tensor forward_single(const torch::Tensor& x, const torch::Tensor& table);

 private:
  struct Heads {
    torch::Tensor query, key, value;  // [B, S, heads, head_dim]
  };
  Heads image_heads(const torch::Tensor& x);
  Heads text_heads(const torch::Tensor& x);

  std::int64_t head_dim_;
  SparseLinear to_q_{nullptr}, to_k_{nullptr}, to_v_{nullptr}, to_out_{nullptr};
  SparseLinear add_q_{nullptr}, add_k_{nullptr}, add_v_{nullptr}, to_add_out_{nullptr};
  RmsNorm norm_q_{nullptr}, norm_k_{nullptr}, norm_added_q_{nullptr}, norm_added_k_{nullptr};
};
TORCH_MODULE(BlockAttention);

/// Double-stream block of FLUX.1 and Qwen-Image: text and image attend jointly and have their own
/// weights.
class DoubleBlockImpl : public torch::nn::Module {
 public:
  DoubleBlockImpl(std::int64_t dim, std::int64_t head_dim, const DoubleBlockNames& names,
                  const torch::TensorOptions& options);

  /// temb [B, d]; table [T + I, head_dim / 2]; mask as BlockAttention's.
  JointStreams forward(const JointStreams& streams, const torch::Tensor& temb,
                       const torch::Tensor& table, const torch::Tensor& mask = {});

 private:
  SparseLinear text_modulation_{nullptr}, image_modulation_{nullptr};
  BlockAttention attn_{nullptr};
  FeedForward text_mlp_{nullptr}, image_mlp_{nullptr};
};
TORCH_MODULE(DoubleBlock);

/// As diffusers does behind a block: fp16 activations stay finite.
torch::Tensor clip_half(const torch::Tensor& x);

}  // namespace rtlynx
