// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/blocks.h"

#include "layers/attention.h"

namespace rtlynx {
namespace {

/// As diffusers' apply_rotary_emb: x [B, S, heads, head_dim] in fp32, each image its own angles.
torch::Tensor turn(const torch::Tensor& x, const torch::Tensor& rotation) {
  const torch::Tensor pairs = x.to(torch::kFloat32).unflatten(-1, {-1, 2}).contiguous();
  const torch::Tensor turned = torch::view_as_complex(pairs) * rotation.unsqueeze(2);
  return torch::view_as_real(turned).flatten(-2).to(x.scalar_type());
}

}  // namespace

ZImageAttentionImpl::ZImageAttentionImpl(const ZImageConfig& config,
                                         const torch::TensorOptions& options)
    : head_dim_(config.head_dim()) {
  const auto projection = [&] {
    return SparseLinear(config.dim, config.dim, options, /*with_bias=*/false);
  };
  norm_q_ = register_module("norm_q", PlainRmsNorm(head_dim_, kZImageHeadEps, options));
  norm_k_ = register_module("norm_k", PlainRmsNorm(head_dim_, kZImageHeadEps, options));
  to_q_ = register_module("to_q", projection());
  to_k_ = register_module("to_k", projection());
  to_v_ = register_module("to_v", projection());
  // Slot 1 of diffusers' to_out is a dropout without parameters.
  to_out_ = projection();
  register_module("to_out", torch::nn::ModuleList(to_out_));
}

torch::Tensor ZImageAttentionImpl::forward(const torch::Tensor& x, const ZImageTokens& tokens) {
  const torch::Tensor query = turn(norm_q_(split_heads(to_q_(x), head_dim_)), tokens.rotation);
  const torch::Tensor key = turn(norm_k_(split_heads(to_k_(x), head_dim_)), tokens.rotation);
  const torch::Tensor value = split_heads(to_v_(x), head_dim_);
  const std::optional<torch::Tensor> mask =
      tokens.mask.defined() ? std::optional(tokens.mask) : std::nullopt;
  const torch::Tensor out = torch::scaled_dot_product_attention(
      query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask);
  return to_out_(out.transpose(1, 2).flatten(2));
}

ZImageFeedForwardImpl::ZImageFeedForwardImpl(const ZImageConfig& config,
                                             const torch::TensorOptions& options) {
  const std::int64_t dim = config.dim, wide = config.mlp_dim();
  w1_ = register_module("w1", SparseLinear(dim, wide, options, /*with_bias=*/false));
  w2_ = register_module("w2", SparseLinear(wide, dim, options, /*with_bias=*/false));
  w3_ = register_module("w3", SparseLinear(dim, wide, options, /*with_bias=*/false));
}

torch::Tensor ZImageFeedForwardImpl::forward(const torch::Tensor& x) {
  return w2_(torch::silu(w1_(x)) * w3_(x));
}

ZImageBlockImpl::ZImageBlockImpl(const ZImageConfig& config, Kind kind,
                                 const torch::TensorOptions& options) {
  const auto norm = [&](const char* name) {
    return register_module(name, PlainRmsNorm(config.dim, config.norm_eps, options));
  };
  attention_ = register_module("attention", ZImageAttention(config, options));
  feed_forward_ = register_module("feed_forward", ZImageFeedForward(config, options));
  attention_norm1_ = norm("attention_norm1");
  ffn_norm1_ = norm("ffn_norm1");
  attention_norm2_ = norm("attention_norm2");
  ffn_norm2_ = norm("ffn_norm2");
  if (kind == Kind::plain) return;
  modulation_ = SparseLinear(config.time_dim(), 4 * config.dim, options);
  register_module("adaLN_modulation", torch::nn::ModuleList(modulation_));
}

torch::Tensor ZImageBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& temb,
                                       const ZImageTokens& tokens) {
  if (modulation_.is_empty()) {
    const torch::Tensor middle = x + attention_norm2_(attention_(attention_norm1_(x), tokens));
    return middle + ffn_norm2_(feed_forward_(ffn_norm1_(middle)));
  }
  // Scale and gate of attention, then of the MLP.
  const auto mod = modulation_(temb).unsqueeze(1).chunk(4, /*dim=*/2);
  const torch::Tensor attended = attention_(attention_norm1_(x) * (1 + mod[0]), tokens);
  const torch::Tensor middle = x + torch::tanh(mod[1]) * attention_norm2_(attended);
  const torch::Tensor update = feed_forward_(ffn_norm1_(middle) * (1 + mod[2]));
  return middle + torch::tanh(mod[3]) * ffn_norm2_(update);
}

}  // namespace rtlynx
