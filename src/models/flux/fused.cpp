// SPDX-License-Identifier: Apache-2.0
#include "models/flux/fused.h"

#include <algorithm>

#include "models/flux/groups.h"
#include "models/modules.h"

namespace rtlynx {
namespace {

constexpr ops::Activation kNone = ops::Activation::none, kGelu = ops::Activation::gelu;

}  // namespace

FluxFused::FluxFused(FluxTransformer model) : model_(std::move(model)) {
  const torch::NoGradGuard no_grad;
  const Modules modules(*model_);
  const auto name = [](const char* list, std::int64_t i) {
    return std::string(list) + "." + std::to_string(i) + ".";
  };
  const SideStream side_stream(model_->parameters().front().device());
  for (std::int64_t i = 0; i < model_->config().num_layers; ++i) {
    double_blocks_.emplace_back(modules, name("transformer_blocks", i), kFluxDoubleBlock,
                                model_->config().attention_head_dim, side_stream);
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

torch::Tensor FluxFused::run_single(const SingleBlock& block, const FusedStream& joint,
                                    const NextNorm& own, const torch::Tensor& rotation) const {
  // A dense output projection reads attention and MLP from one tensor: the MLP is written into it.
  torch::Tensor together;  // [B, S, 5 d]
  std::vector<torch::Tensor> places;
  const std::int64_t dim = joint.h.size(2);
  if (block.out.reads_dense()) {
    together = torch::empty({joint.h.size(0), joint.h.size(1), 5 * dim}, joint.h.options());
    places = {{}, {}, {}, together.narrow(2, dim, 4 * dim)};
  }
  torch::Tensor limit;  // of the MLP
  if (block.out.reads_limits()) limit = zero_limits(joint.h);
  const std::vector<torch::Tensor> qkvm =
      block.in.forward(input_of(joint, own), places, {{}, {}, {}, limit});
  ops::Heads heads = ops::head_norm({.q = {qkvm[0]},
                                     .k = {qkvm[1]},
                                     .v = {},
                                     .q_weights = {block.norm_q},
                                     .k_weights = {block.norm_k}},
                                    rotation, model_->config().attention_head_dim);
  heads.v = qkvm[2];
  const torch::Tensor attended = attend_heads(heads, model_->config().attention_head_dim);
  if (!together.defined()) {
    return block.out.forward({.x = attended, .tail = qkvm[3], .tail_limit = limit}).front();
  }
  together.narrow(2, 0, dim).copy_(attended);
  return block.out.forward({.x = together}).front();
}

torch::Tensor FluxFused::forward(const FluxInputs& inputs, const torch::Tensor& rotation) {
  const torch::NoGradGuard no_grad;
  const auto [streams, temb] = model_->begin(inputs);
  const std::int64_t text_tokens = streams.text.size(1);
  const torch::Tensor activated = torch::silu(temb);

  std::vector<FusedDoubleBlock::Modulation> double_mods(double_blocks_.size());
  std::vector<std::vector<torch::Tensor>> single_mods(single_blocks_.size());  // shift, scale, gate
  const std::size_t doubles = double_blocks_.size(), all = doubles + single_blocks_.size();
  std::size_t modulated = 0;  // blocks, in their order
  const auto modulate_up_to = [&](std::size_t end) {
    for (; modulated < std::min(end, all); ++modulated) {
      if (modulated < doubles) {
        double_mods[modulated] = double_blocks_[modulated].modulation(activated);
      } else {
        SparseLinear linear = single_blocks_[modulated - doubles].modulation;
        single_mods[modulated - doubles] = linear(activated).chunk(3, /*dim=*/1);
      }
    }
  };
  const auto single_next = [&](std::size_t i) -> NextNorm {
    if (i >= single_blocks_.size()) return {};
    return {&single_blocks_[i].in, single_mods[i][1], single_mods[i][0]};
  };
  const auto text_next = [&](std::size_t i) {
    return i < double_blocks_.size() ? double_blocks_[i].text_in(double_mods[i]) : single_next(0);
  };
  const auto image_next = [&](std::size_t i) {
    return i < double_blocks_.size() ? double_blocks_[i].image_in(double_mods[i]) : single_next(0);
  };

  // A block's own end needs the next one's modulation, so that its products run beside the double
  // block before both; the single blocks' are shared out among the double blocks but the last.
  const std::size_t share = doubles > 1 ? (all + doubles - 2) / (doubles - 1) : 0;
  modulate_up_to(doubles > 1 ? 2 : all);

  FusedStream text = begin_stream(streams.text, text_next(0));
  FusedStream image = begin_stream(streams.image, image_next(0));
  for (std::size_t i = 0; i < doubles; ++i) {
    double_blocks_[i].forward(text, image, double_mods[i], {.rotation = rotation, .mask = {}},
                              {.text = text_next(i + 1), .image = image_next(i + 1), .beside = [&] {
                                 modulate_up_to(2 + (i + 1) * share);
                               }});
  }

  const auto join = [](const torch::Tensor& a, const torch::Tensor& b) {
    return a.defined() ? torch::cat({a, b}, /*dim=*/1) : a;
  };
  FusedStream joint{join(text.h, image.h), join(text.moments, image.moments),
                    join(text.normed, image.normed)};
  for (std::size_t i = 0; i < single_blocks_.size(); ++i) {
    const torch::Tensor y = run_single(single_blocks_[i], joint, single_next(i), rotation);
    joint = advance_stream(joint, y, single_mods[i][2], single_next(i + 1));
  }
  return model_->finish(joint.h.narrow(1, text_tokens, joint.h.size(1) - text_tokens), temb);
}

}  // namespace rtlynx
