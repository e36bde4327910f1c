// SPDX-License-Identifier: Apache-2.0
#include "models/flux/blocks.h"

namespace rtlynx {

FluxSingleBlockImpl::FluxSingleBlockImpl(const FluxConfig& config,
                                         const torch::TensorOptions& options) {
  const std::int64_t dim = config.hidden_dim();
  norm_ = register_module("norm", Modulation(dim, 3, options));
  proj_mlp_ = register_module("proj_mlp", SparseLinear(dim, 4 * dim, options));
  proj_out_ = register_module("proj_out", SparseLinear(5 * dim, dim, options));
  attn_ = register_module("attn", BlockAttention(dim, config.attention_head_dim,
                                                 BlockAttentionImpl::Kind::single, options));
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
