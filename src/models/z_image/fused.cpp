// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/fused.h"

#include <utility>

#include "models/modules.h"

namespace rtlynx {

ZImageFused::ZImageFused(ZImageTransformer model) : model_(std::move(model)) {
  const torch::NoGradGuard no_grad;
  const ZImageConfig& config = model_->config();
  noise_refiner_ = blocks_named("noise_refiner", config.n_refiner_layers);
  context_refiner_ = blocks_named("context_refiner", config.n_refiner_layers);
  layers_ = blocks_named("layers", config.n_layers);
}

std::vector<ZImageFused::Block> ZImageFused::blocks_named(const char* list,
                                                          std::int64_t count) const {
  const Modules modules(*model_);
  std::vector<Block> blocks;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = std::string(list) + "." + std::to_string(i) + ".";
    const std::string attention = name + "attention.", mlp = name + "feed_forward.";
    Block block{.qkv = modules.group(attention, {"to_q", "to_k", "to_v"}),
                .out = modules.group(attention, {"to_out.0"}),
                .gate_up = modules.group(mlp, {"w1", "w3"}),
                .down = modules.group(mlp, {"w2"}),
                .norm_q = modules.weight(attention + "norm_q"),
                .norm_k = modules.weight(attention + "norm_k"),
                .attention_norm1 = modules.weight(name + "attention_norm1"),
                .attention_norm2 = modules.weight(name + "attention_norm2"),
                .ffn_norm1 = modules.weight(name + "ffn_norm1"),
                .ffn_norm2 = modules.weight(name + "ffn_norm2")};
    const std::string modulation = name + "adaLN_modulation.0";
    if (modules.has_linear(modulation)) block.modulation = modules.linear(modulation);
    blocks.push_back(std::move(block));
  }
  return blocks;
}

torch::Tensor ZImageFused::rotation(const ZImageInputs& inputs) const {
  return torch::view_as_real(model_->rotation(inputs))
      .contiguous()
      .to(inputs.hidden_states.device());
}

ZImageFused::Stream ZImageFused::begin(const torch::Tensor& h, const Next& next) const {
  const bool wants_normed = next.group->reads_dense();
  const ops::NormedRows rows = ops::residual_norm(h, {.norm = "rms",
                                                      .eps = model_->config().norm_eps,
                                                      .weight = next.weight,
                                                      .scale = given(next.scale),
                                                      .want_normed = wants_normed});
  return {h, rows.moments, wants_normed ? rows.normed : torch::Tensor()};
}

ZImageFused::Stream ZImageFused::advance(const Stream& stream, const torch::Tensor& y,
                                         const torch::Tensor& post_weight,
                                         const torch::Tensor& gate, const Next& next) const {
  const double eps = model_->config().norm_eps;
  const bool wants_normed = next.group != nullptr && next.group->reads_dense();
  ops::ResidualNormOptions options{.y = y,
                                   .gate = given(gate),
                                   .tanh_gate = gate.defined(),
                                   .post_weight = post_weight,
                                   .post_eps = eps,
                                   .norm = "rms",
                                   .eps = eps,
                                   .want_normed = wants_normed};
  if (wants_normed) {
    options.weight = next.weight;
    options.scale = given(next.scale);
  }
  const ops::NormedRows rows = ops::residual_norm(stream.h, options);
  return {rows.h, rows.moments, wants_normed ? rows.normed : torch::Tensor()};
}

GroupInput ZImageFused::input(const Stream& stream, const Next& next) const {
  return {.x = stream.h,
          .moments = stream.moments,
          .weight = next.weight,
          .scale = next.scale,
          .norm = Norm::rms,
          .eps = model_->config().norm_eps,
          .normed = stream.normed};
}

torch::Tensor ZImageFused::attend(const Block& block, const std::vector<torch::Tensor>& qkv,
                                  const Tokens& tokens) const {
  const std::int64_t head_dim = model_->config().head_dim();
  const std::int64_t batch = qkv[0].size(0), length = qkv[0].size(1), dim = qkv[0].size(2);
  // Images may have rotations of their own: to head_norm they are one of B * S tokens.
  const auto as_one = [&](const torch::Tensor& x) { return x.view({1, batch * length, dim}); };
  const ops::Heads heads = ops::head_norm({.q = {as_one(qkv[0])},
                                           .k = {as_one(qkv[1])},
                                           .v = {},
                                           .q_weights = {block.norm_q},
                                           .k_weights = {block.norm_k}},
                                          tokens.rotation, head_dim, kZImageHeadEps);
  const torch::Tensor q = heads.q.view({batch, length, dim});
  const torch::Tensor k = heads.k.view({batch, length, dim});
  if (tokens.attends.empty()) return attend_heads({q, k, qkv[2]}, head_dim);
  // Short of a mask, which has no fast kernel: each image for itself, nothing behind its tokens.
  torch::Tensor attended = torch::zeros_like(q);
  for (std::int64_t i = 0; i < batch; ++i) {
    const std::int64_t own = tokens.attends[static_cast<std::size_t>(i)];
    const auto part = [&](const torch::Tensor& x) { return x.narrow(0, i, 1).narrow(1, 0, own); };
    part(attended).copy_(attend_heads({part(q), part(k), part(qkv[2])}, head_dim));
  }
  return attended;
}

torch::Tensor ZImageFused::run(const std::vector<Block>& blocks, const torch::Tensor& x,
                               const torch::Tensor& temb, const Tokens& tokens) const {
  if (blocks.empty()) return x;
  std::vector<Modulation> mods;
  for (const Block& block : blocks) {
    Modulation& mod = mods.emplace_back();
    if (block.modulation.is_empty()) continue;
    const auto parts = SparseLinear(block.modulation)(temb).chunk(4, /*dim=*/1);
    mod = {parts[0], parts[1], parts[2], parts[3]};
  }
  const auto attention_next = [&](std::size_t i) -> Next {
    if (i >= blocks.size()) return {nullptr, {}, {}};
    return {&blocks[i].qkv, blocks[i].attention_norm1, mods[i].attention_scale};
  };

  Stream stream = begin(x, attention_next(0));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    const auto qkv = block.qkv.forward(input(stream, attention_next(i)));
    const torch::Tensor attended = block.out.forward({.x = attend(block, qkv, tokens)}).front();
    const Next mlp{&block.gate_up, block.ffn_norm1, mods[i].mlp_scale};
    stream = advance(stream, attended, block.attention_norm2, mods[i].attention_gate, mlp);
    torch::Tensor gate_limit, up_limit, limit;  // |silu(g) u| <= |g| |u|
    if (block.down.reads_limits()) {
      gate_limit = zero_limits(stream.h);
      up_limit = zero_limits(stream.h);
    }
    const auto gate_up = block.gate_up.forward(input(stream, mlp), {}, {gate_limit, up_limit});
    if (gate_limit.defined()) limit = gate_limit * up_limit;
    const torch::Tensor update =
        block.down.forward({.x = gate_up[0], .up = gate_up[1], .limit = limit}).front();
    stream = advance(stream, update, block.ffn_norm2, mods[i].mlp_gate, attention_next(i + 1));
  }
  return stream.h;
}

torch::Tensor ZImageFused::forward(const ZImageInputs& inputs, const torch::Tensor& rotation) {
  const torch::NoGradGuard no_grad;
  const auto [image, caption, temb] = model_->begin(inputs);
  const ZImageSequence sequence = model_->sequence(inputs);
  const std::int64_t image_tokens = sequence.image_tokens();
  const auto tokens = [&](std::int64_t first, std::int64_t count) -> Tokens {
    Tokens result{rotation.narrow(1, first, count).flatten(0, 1), {}};
    if (!sequence.is_ragged() || first + count == image_tokens) return result;
    for (const std::int64_t own : sequence.captions) {
      result.attends.push_back(image_tokens - first + ZImageSequence::padded(own));
    }
    return result;
  };
  const torch::Tensor x = torch::cat(
      {run(noise_refiner_, image, temb, tokens(0, image_tokens)),
       run(context_refiner_, caption, temb, tokens(image_tokens, sequence.caption_tokens()))},
      /*dim=*/1);
  const torch::Tensor y = run(layers_, x, temb, tokens(0, sequence.joint_tokens()));
  return model_->finish(y.narrow(1, 0, sequence.patches()), temb, sequence);
}

}  // namespace rtlynx
