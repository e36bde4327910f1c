// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "layers/attention.h"
#include "layers/feed_forward.h"
#include "layers/modulation.h"
#include "models/flux/config.h"

namespace rtlynx {

/// The two token streams of a double block; a single block sees their concatenation.
struct FluxStreams {
  torch::Tensor text;   // [B, T, d]
  torch::Tensor image;  // [B, I, d]
};

/// q, k and v projections with RMS-normed q and k, and, in a double block, the same for text.
class FluxAttentionImpl : public torch::nn::Module {
 public:
  enum class Kind { joint, single };
  FluxAttentionImpl(const FluxConfig& config, Kind kind, const torch::TensorOptions& options);

  /// Joint attention over [text, image], each stream through its own projections.
  FluxStreams forward(const FluxStreams& normed, const torch::Tensor& table);

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
TORCH_MODULE(FluxAttention);

/// Double-stream block: text and image attend jointly and have their own weights.
class FluxDoubleBlockImpl : public torch::nn::Module {
 public:
  FluxDoubleBlockImpl(const FluxConfig& config, const torch::TensorOptions& options);
  FluxStreams forward(const FluxStreams& streams, const torch::Tensor& temb,
                      const torch::Tensor& table);

 private:
  Modulation norm1_{nullptr}, norm1_context_{nullptr};
  FluxAttention attn_{nullptr};
  FeedForward ff_{nullptr}, ff_context_{nullptr};
};
TORCH_MODULE(FluxDoubleBlock);

/// Single-stream block: attention and MLP read one normed input and share the output projection.
class FluxSingleBlockImpl : public torch::nn::Module {
 public:
  FluxSingleBlockImpl(const FluxConfig& config, const torch::TensorOptions& options);

  /// x [B, T + I, d] = [text, image].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& temb,
                        const torch::Tensor& table);

 private:
  Modulation norm_{nullptr};
  FluxAttention attn_{nullptr};
  SparseLinear proj_mlp_{nullptr}, proj_out_{nullptr};
};
TORCH_MODULE(FluxSingleBlock);

}  // namespace rtlynx
