// SPDX-License-Identifier: Apache-2.0
#include "models/flux/fused.h"

#include "models/modules.h"

namespace rtlynx {
namespace {

constexpr ops::Activation kNone = ops::Activation::none, kGelu = ops::Activation::gelu;

/// The modulation's `parts` vectors [B, d].
std::vector<torch::Tensor> modulation_of(SparseLinear linear, const torch::Tensor& temb,
                                         std::int64_t parts) {
  return linear(temb).chunk(parts, /*dim=*/1);
}

}  // namespace

FluxFused::FluxFused(FluxTransformer model) : model_(std::move(model)) {
  const torch::NoGradGuard no_grad;
  const Modules modules(*model_);
  const auto name = [](const char* list, std::int64_t i) {
    return std::string(list) + "." + std::to_string(i) + ".";
  };
  for (std::int64_t i = 0; i < model_->config().num_layers; ++i) {
    const std::string block = name("transformer_blocks", i);
    DoubleBlock made;
    made.image = {.qkv = modules.group(block, {"attn.to_q", "attn.to_k", "attn.to_v"}),
                  .out = modules.group(block, {"attn.to_out.0"}),
                  .up = modules.group(block, {"ff.net.0.proj"}, {kGelu}),
                  .down = modules.group(block, {"ff.net.2"}),
                  .norm_q = modules.weight(block + "attn.norm_q"),
                  .norm_k = modules.weight(block + "attn.norm_k"),
                  .modulation = modules.linear(block + "norm1.linear")};
    made.text = {
        .qkv = modules.group(block, {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}),
        .out = modules.group(block, {"attn.to_add_out"}),
        .up = modules.group(block, {"ff_context.net.0.proj"}, {kGelu}),
        .down = modules.group(block, {"ff_context.net.2"}),
        .norm_q = modules.weight(block + "attn.norm_added_q"),
        .norm_k = modules.weight(block + "attn.norm_added_k"),
        .modulation = modules.linear(block + "norm1_context.linear")};
    double_blocks_.push_back(std::move(made));
  }
  for (std::int64_t i = 0; i < model_->config().num_single_layers; ++i) {
    const std::string block = name("single_transformer_blocks", i);
    single_blocks_.push_back(
        {.in = modules.group(block, {"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"},
                             {kNone, kNone, kNone, kGelu}),
         .out = modules.group(block, {"proj_out"}),
         .norm_q = modules.weight(block + "attn.norm_q"),
         .norm_k = modules.weight(block + "attn.norm_k"),
         .modulation = modules.linear(block + "norm.linear")});
  }
}

torch::Tensor FluxFused::rotation(const torch::Tensor& txt_ids,
                                  const torch::Tensor& img_ids) const {
  return torch::view_as_real(model_->rotation(txt_ids, img_ids)).contiguous();
}

FluxFused::Stream FluxFused::begin(const torch::Tensor& h, const Next& next) {
  const ops::NormedRows rows = ops::residual_norm(
      h, {.scale = next.scale, .shift = next.shift, .want_normed = next.group->reads_dense()});
  return {h, rows.moments, next.group->reads_dense() ? rows.normed : torch::Tensor()};
}

FluxFused::Stream FluxFused::advance(const Stream& stream, const torch::Tensor& y,
                                     const torch::Tensor& gate, const Next& next) {
  const bool wants_normed = next.group != nullptr && next.group->reads_dense();
  ops::ResidualNormOptions options{.y = y, .gate = gate, .want_normed = wants_normed};
  if (wants_normed) {
    options.scale = next.scale;
    options.shift = next.shift;
  }
  const ops::NormedRows rows = ops::residual_norm(stream.h, options);
  return {rows.h, rows.moments, wants_normed ? rows.normed : torch::Tensor()};
}

GroupInput FluxFused::input(const Stream& stream, const Next& next) {
  return {.x = stream.h,
          .moments = stream.moments,
          .scale = next.scale,
          .shift = next.shift,
          .normed = stream.normed};
}

torch::Tensor FluxFused::run_single(const SingleBlock& block, const Stream& joint, const Next& own,
                                    const torch::Tensor& rotation) const {
  // A dense output projection reads attention and MLP from one tensor: the MLP is written into it.
  torch::Tensor together;  // [B, S, 5 d]
  std::vector<torch::Tensor> places;
  const std::int64_t dim = joint.h.size(2);
  if (block.out.reads_dense()) {
    together = torch::empty({joint.h.size(0), joint.h.size(1), 5 * dim}, joint.h.options());
    places = {{}, {}, {}, together.narrow(2, dim, 4 * dim)};
  }
  const std::vector<torch::Tensor> qkvm = block.in.forward(input(joint, own), places);
  ops::Heads heads = ops::head_norm({.q = {qkvm[0]},
                                     .k = {qkvm[1]},
                                     .v = {},
                                     .q_weights = {block.norm_q},
                                     .k_weights = {block.norm_k}},
                                    rotation, model_->config().attention_head_dim);
  heads.v = qkvm[2];
  const torch::Tensor attended = attend_heads(heads, model_->config().attention_head_dim);
  if (!together.defined()) return block.out.forward({.x = attended, .tail = qkvm[3]}).front();
  together.narrow(2, 0, dim).copy_(attended);
  return block.out.forward({.x = together}).front();
}

torch::Tensor FluxFused::forward(const FluxInputs& inputs, const torch::Tensor& rotation) {
  const torch::NoGradGuard no_grad;
  const auto [streams, temb] = model_->begin(inputs);
  const std::int64_t text_tokens = streams.text.size(1),
                     head_dim = model_->config().attention_head_dim;
  const torch::Tensor activated = torch::silu(temb);

  // Shift, scale and gate of attention, then of the MLP; of a single block the first three.
  std::vector<std::vector<torch::Tensor>> text_mods, image_mods, single_mods;
  for (const DoubleBlock& block : double_blocks_) {
    text_mods.push_back(modulation_of(block.text.modulation, activated, 6));
    image_mods.push_back(modulation_of(block.image.modulation, activated, 6));
  }
  for (const SingleBlock& block : single_blocks_) {
    single_mods.push_back(modulation_of(block.modulation, activated, 3));
  }
  const auto single_next = [&](std::size_t i) -> Next {
    if (i >= single_blocks_.size()) return {nullptr, {}, {}};
    return {&single_blocks_[i].in, single_mods[i][1], single_mods[i][0]};
  };
  const auto qkv_next = [&](std::size_t i, bool image) -> Next {
    if (i >= double_blocks_.size()) return single_next(0);
    const auto& mod = image ? image_mods[i] : text_mods[i];
    return {image ? &double_blocks_[i].image.qkv : &double_blocks_[i].text.qkv, mod[1], mod[0]};
  };

  Stream text = begin(streams.text, qkv_next(0, false));
  Stream image = begin(streams.image, qkv_next(0, true));
  for (std::size_t i = 0; i < double_blocks_.size(); ++i) {
    const DoubleBlock& block = double_blocks_[i];
    const auto text_qkv = block.text.qkv.forward(input(text, qkv_next(i, false)));
    const auto image_qkv = block.image.qkv.forward(input(image, qkv_next(i, true)));
    const torch::Tensor attended =
        attend_heads(ops::head_norm({.q = {text_qkv[0], image_qkv[0]},
                                     .k = {text_qkv[1], image_qkv[1]},
                                     .v = {text_qkv[2], image_qkv[2]},
                                     .q_weights = {block.text.norm_q, block.image.norm_q},
                                     .k_weights = {block.text.norm_k, block.image.norm_k}},
                                    rotation, head_dim),
                     head_dim);
    const auto finish = [&](const Side& side, Stream& stream, const torch::Tensor& own,
                            const std::vector<torch::Tensor>& mod, const Next& next) {
      const Next mlp{&side.up, mod[4], mod[3]};
      stream = advance(stream, side.out.forward({.x = own}).front(), mod[2], mlp);
      const torch::Tensor hidden = side.up.forward(input(stream, mlp)).front();
      stream = advance(stream, side.down.forward({.x = hidden}).front(), mod[5], next);
    };
    finish(block.text, text, attended.narrow(1, 0, text_tokens), text_mods[i],
           qkv_next(i + 1, false));
    finish(block.image, image, attended.narrow(1, text_tokens, attended.size(1) - text_tokens),
           image_mods[i], qkv_next(i + 1, true));
  }

  const auto join = [](const torch::Tensor& a, const torch::Tensor& b) {
    return a.defined() ? torch::cat({a, b}, /*dim=*/1) : a;
  };
  Stream joint{join(text.h, image.h), join(text.moments, image.moments),
               join(text.normed, image.normed)};
  for (std::size_t i = 0; i < single_blocks_.size(); ++i) {
    const torch::Tensor y = run_single(single_blocks_[i], joint, single_next(i), rotation);
    joint = advance(joint, y, single_mods[i][2], single_next(i + 1));
  }
  return model_->finish(joint.h.narrow(1, text_tokens, joint.h.size(1) - text_tokens), temb);
}

}  // namespace rtlynx
