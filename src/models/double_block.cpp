// SPDX-License-Identifier: Apache-2.0
#include "models/double_block.h"

#include <string>

#include "layers/modulation.h"

namespace rtlynx {

BlockAttentionImpl::BlockAttentionImpl(std::int64_t dim, std::int64_t head_dim, Kind kind,
                                       const torch::TensorOptions& options)
    : head_dim_(head_dim) {
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

BlockAttentionImpl::Heads BlockAttentionImpl::image_heads(const torch::Tensor& x) {
  return {norm_q_(split_heads(to_q_(x), head_dim_)), norm_k_(split_heads(to_k_(x), head_dim_)),
          split_heads(to_v_(x), head_dim_)};
}

BlockAttentionImpl::Heads BlockAttentionImpl::text_heads(const torch::Tensor& x) {
  return {norm_added_q_(split_heads(add_q_(x), head_dim_)),
          norm_added_k_(split_heads(add_k_(x), head_dim_)), split_heads(add_v_(x), head_dim_)};
}

JointStreams BlockAttentionImpl::forward(const JointStreams& normed, const torch::Tensor& table,
                                         const torch::Tensor& mask) {
  const Heads text = text_heads(normed.text);
  const Heads image = image_heads(normed.image);
  const torch::Tensor joint =
      attend(torch::cat({text.query, image.query}, 1), torch::cat({text.key, image.key}, 1),
             torch::cat({text.value, image.value}, 1), table, mask);
  const std::int64_t text_tokens = normed.text.size(1);
  return {.text = to_add_out_(joint.narrow(1, 0, text_tokens)),
          .image = to_out_(joint.narrow(1, text_tokens, joint.size(1) - text_tokens))};
}

torch::Tensor BlockAttentionImpl::forward_single(const torch::Tensor& x,
                                                 const torch::Tensor& table) {
  const Heads heads = image_heads(x);
  return attend(heads.query, heads.key, heads.value, table);
}

DoubleBlockImpl::DoubleBlockImpl(std::int64_t dim, std::int64_t head_dim,
                                 const DoubleBlockNames& names,
                                 const torch::TensorOptions& options) {
  const auto add_modulation = [&](const std::string& name) {
    const std::size_t dot = name.find('.');
    return register_module(name.substr(0, dot), std::make_shared<torch::nn::Module>())
        ->register_module(name.substr(dot + 1), SparseLinear(dim, 6 * dim, options));
  };
  image_modulation_ = add_modulation(names.image.modulation);
  text_modulation_ = add_modulation(names.text.modulation);
  attn_ = register_module("attn",
                          BlockAttention(dim, head_dim, BlockAttentionImpl::Kind::joint, options));
  image_mlp_ = register_module(names.image.mlp, FeedForward(dim, options));
  text_mlp_ = register_module(names.text.mlp, FeedForward(dim, options));
}

JointStreams DoubleBlockImpl::forward(const JointStreams& streams, const torch::Tensor& temb,
                                      const torch::Tensor& table, const torch::Tensor& mask) {
  // Chunks: shift, scale, gate of attention, then shift, scale, gate of the MLP.
  const torch::Tensor activated = torch::silu(temb);
  const std::vector<torch::Tensor> image_mod = image_modulation_(activated).chunk(6, /*dim=*/1);
  const std::vector<torch::Tensor> text_mod = text_modulation_(activated).chunk(6, /*dim=*/1);
  const JointStreams attended =
      attn_(JointStreams{.text = modulate(layer_norm(streams.text), text_mod[1], text_mod[0]),
                         .image = modulate(layer_norm(streams.image), image_mod[1], image_mod[0])},
            table, mask);

  const auto finish = [](const torch::Tensor& x, const torch::Tensor& attention,
                         const std::vector<torch::Tensor>& mod, FeedForward& mlp) {
    const torch::Tensor middle = torch::addcmul(x, mod[2].unsqueeze(1), attention);
    const torch::Tensor update = mlp(modulate(layer_norm(middle), mod[4], mod[3]));
    return torch::addcmul(middle, mod[5].unsqueeze(1), update);
  };
  return {.text = clip_half(finish(streams.text, attended.text, text_mod, text_mlp_)),
          .image = finish(streams.image, attended.image, image_mod, image_mlp_)};
}

torch::Tensor clip_half(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat16 ? x.clip(-65504, 65504) : x;
}

}  // namespace rtlynx
