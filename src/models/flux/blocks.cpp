// SPDX-License-Identifier: Apache-2.0
#include "models/flux/blocks.h"

namespace rtlynx {
namespace {

// As diffusers does: fp16 activations stay finite.
torch::Tensor clip_half(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat16 ? x.clip(-65504, 65504) : x;
}

}  // namespace

FluxAttentionImpl::FluxAttentionImpl(const FluxConfig& config, Kind kind,
                                     const torch::TensorOptions& options)
    : head_dim_(config.attention_head_dim) {
  const std::int64_t dim = config.hidden_dim();
  const auto projection = [&](const char* name) {
    return register_module(name, SparseLinear(dim, dim, options));
  };
  const auto norm = [&](const char* name) {
    return register_module(name, RmsNorm(head_dim_, options));
  };
  norm_q_ = norm("norm_q");
  norm_k_ = norm("norm_k");
  to_q_ = projection("to_q");
  to_k_ = projection("to_k");
  to_v_ = projection("to_v");
  if (kind == Kind::single) return;
  // Slot 1 of diffusers' to_out is a dropout without parameters.
  to_out_ = SparseLinear(dim, dim, options);
  register_module("to_out", torch::nn::ModuleList(to_out_));
  norm_added_q_ = norm("norm_added_q");
  norm_added_k_ = norm("norm_added_k");
  add_q_ = projection("add_q_proj");
  add_k_ = projection("add_k_proj");
  add_v_ = projection("add_v_proj");
  to_add_out_ = projection("to_add_out");
}

FluxAttentionImpl::Heads FluxAttentionImpl::image_heads(const torch::Tensor& x) {
  return {norm_q_(split_heads(to_q_(x), head_dim_)), norm_k_(split_heads(to_k_(x), head_dim_)),
          split_heads(to_v_(x), head_dim_)};
}

FluxAttentionImpl::Heads FluxAttentionImpl::text_heads(const torch::Tensor& x) {
  return {norm_added_q_(split_heads(add_q_(x), head_dim_)),
          norm_added_k_(split_heads(add_k_(x), head_dim_)), split_heads(add_v_(x), head_dim_)};
}

FluxStreams FluxAttentionImpl::forward(const FluxStreams& normed, const torch::Tensor& table) {
  const Heads text = text_heads(normed.text);
  const Heads image = image_heads(normed.image);
  const torch::Tensor joint =
      attend(torch::cat({text.query, image.query}, 1), torch::cat({text.key, image.key}, 1),
             torch::cat({text.value, image.value}, 1), table);
  const std::int64_t text_tokens = normed.text.size(1);
  return {.text = to_add_out_(joint.narrow(1, 0, text_tokens)),
          .image = to_out_(joint.narrow(1, text_tokens, joint.size(1) - text_tokens))};
}

torch::Tensor FluxAttentionImpl::forward_single(const torch::Tensor& x,
                                                const torch::Tensor& table) {
  const Heads heads = image_heads(x);
  return attend(heads.query, heads.key, heads.value, table);
}

FluxDoubleBlockImpl::FluxDoubleBlockImpl(const FluxConfig& config,
                                         const torch::TensorOptions& options) {
  const std::int64_t dim = config.hidden_dim();
  norm1_ = register_module("norm1", Modulation(dim, 6, options));
  norm1_context_ = register_module("norm1_context", Modulation(dim, 6, options));
  attn_ = register_module("attn", FluxAttention(config, FluxAttentionImpl::Kind::joint, options));
  ff_ = register_module("ff", FeedForward(dim, options));
  ff_context_ = register_module("ff_context", FeedForward(dim, options));
}

FluxStreams FluxDoubleBlockImpl::forward(const FluxStreams& streams, const torch::Tensor& temb,
                                         const torch::Tensor& table) {
  // Chunks: shift, scale, gate of attention, then shift, scale, gate of the MLP.
  const auto image_mod = norm1_(temb);
  const auto text_mod = norm1_context_(temb);
  const FluxStreams attended =
      attn_(FluxStreams{.text = modulate(layer_norm(streams.text), text_mod[1], text_mod[0]),
                        .image = modulate(layer_norm(streams.image), image_mod[1], image_mod[0])},
            table);

  const auto finish = [](const torch::Tensor& x, const torch::Tensor& attention,
                         const std::vector<torch::Tensor>& mod, FeedForward& mlp) {
    const torch::Tensor middle = torch::addcmul(x, mod[2].unsqueeze(1), attention);
    const torch::Tensor update = mlp(modulate(layer_norm(middle), mod[4], mod[3]));
    return torch::addcmul(middle, mod[5].unsqueeze(1), update);
  };
  return {.text = clip_half(finish(streams.text, attended.text, text_mod, ff_context_)),
          .image = finish(streams.image, attended.image, image_mod, ff_)};
}

FluxSingleBlockImpl::FluxSingleBlockImpl(const FluxConfig& config,
                                         const torch::TensorOptions& options) {
  const std::int64_t dim = config.hidden_dim();
  norm_ = register_module("norm", Modulation(dim, 3, options));
  proj_mlp_ = register_module("proj_mlp", SparseLinear(dim, 4 * dim, options));
  proj_out_ = register_module("proj_out", SparseLinear(5 * dim, dim, options));
  attn_ = register_module("attn", FluxAttention(config, FluxAttentionImpl::Kind::single, options));
}

torch::Tensor FluxSingleBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& temb,
                                           const torch::Tensor& table) {
  const auto mod = norm_(temb);  // shift, scale, gate
  const torch::Tensor normed = modulate(layer_norm(x), mod[1], mod[0]);
  const torch::Tensor mlp = torch::gelu(proj_mlp_(normed), "tanh");
  const torch::Tensor attention = attn_->forward_single(normed, table);
  const torch::Tensor update = proj_out_(torch::cat({attention, mlp}, /*dim=*/2));
  return clip_half(torch::addcmul(x, mod[2].unsqueeze(1), update));
}

}  // namespace rtlynx
