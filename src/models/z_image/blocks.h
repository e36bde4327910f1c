// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "layers/sparse_linear.h"
#include "models/plain_layers.h"
#include "models/z_image/config.h"

namespace rtlynx {

/// Of q's and k's norm, whatever norm_eps is.
inline constexpr double kZImageHeadEps = 1e-5;

/// What all blocks of a token stream share: how its tokens turn and which of them attend.
struct ZImageTokens {
  torch::Tensor rotation;  // complex64 [B, S, head_dim / 2]
  torch::Tensor mask;      // bool [B, 1, 1, S], which keys count; undefined: all
};

/// Self-attention with RMS-normed and rotated q and k.
class ZImageAttentionImpl : public torch::nn::Module {
 public:
  ZImageAttentionImpl(const ZImageConfig& config, const torch::TensorOptions& options);

  /// x [B, S, d] -> [B, S, d].
  torch::Tensor forward(const torch::Tensor& x, const ZImageTokens& tokens);

 private:
  std::int64_t head_dim_;
  SparseLinear to_q_{nullptr}, to_k_{nullptr}, to_v_{nullptr}, to_out_{nullptr};
  PlainRmsNorm norm_q_{nullptr}, norm_k_{nullptr};
};
TORCH_MODULE(ZImageAttention);

/// SwiGLU: x [..., d] -> w2(silu(w1(x)) * w3(x)).
class ZImageFeedForwardImpl : public torch::nn::Module {
 public:
  ZImageFeedForwardImpl(const ZImageConfig& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  SparseLinear w1_{nullptr}, w2_{nullptr}, w3_{nullptr};
};
TORCH_MODULE(ZImageFeedForward);

/// Attention and MLP between RMS norms. The time scales their inputs and gates their results, but
/// for the blocks of the context refiner, which do not know it.
class ZImageBlockImpl : public torch::nn::Module {
 public:
  enum class Kind { modulated, plain };
  ZImageBlockImpl(const ZImageConfig& config, Kind kind, const torch::TensorOptions& options);

  /// x [B, S, d], temb [B, time_dim] -> [B, S, d]. A plain block does not read temb.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& temb,
                        const ZImageTokens& tokens);

 private:
  ZImageAttention attention_{nullptr};
  ZImageFeedForward feed_forward_{nullptr};
  PlainRmsNorm attention_norm1_{nullptr}, attention_norm2_{nullptr};
  PlainRmsNorm ffn_norm1_{nullptr}, ffn_norm2_{nullptr};
  SparseLinear modulation_{nullptr};
};
TORCH_MODULE(ZImageBlock);

}  // namespace rtlynx
