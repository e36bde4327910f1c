// SPDX-License-Identifier: Apache-2.0
#include "models/fused_double_block.h"

#include <utility>

namespace rtlynx {

FusedStream begin_stream(const torch::Tensor& h, const NextNorm& next) {
  const ops::NormedRows rows = ops::residual_norm(
      h, {.scale = next.scale, .shift = next.shift, .want_normed = next.group->reads_dense()});
  return {h, rows.moments, next.group->reads_dense() ? rows.normed : torch::Tensor()};
}

FusedStream advance_stream(const FusedStream& stream, const torch::Tensor& y,
                           const torch::Tensor& gate, const NextNorm& next) {
  const bool wants_normed = next.group != nullptr && next.group->reads_dense();
  ops::ResidualNormOptions options{.y = y, .gate = gate, .want_normed = wants_normed};
  if (wants_normed) {
    options.scale = next.scale;
    options.shift = next.shift;
  }
  const ops::NormedRows rows = ops::residual_norm(stream.h, options);
  return {rows.h, rows.moments, wants_normed ? rows.normed : torch::Tensor()};
}

GroupInput input_of(const FusedStream& stream, const NextNorm& next) {
  return {.x = stream.h,
          .moments = stream.moments,
          .scale = next.scale,
          .shift = next.shift,
          .normed = stream.normed};
}

FusedDoubleBlock::FusedDoubleBlock(const Modules& modules, const std::string& block,
                                   const DoubleBlockNames& names, std::int64_t head_dim,
                                   SideStream side_stream)
    : head_dim_(head_dim), side_stream_(std::move(side_stream)) {
  const auto up = [&](const DoubleBlockNames::Side& side) {
    return modules.group(block, {std::string(side.mlp) + ".net.0.proj"}, {ops::Activation::gelu});
  };
  const auto down = [&](const DoubleBlockNames::Side& side) {
    return modules.group(block, {std::string(side.mlp) + ".net.2"});
  };
  image_ = {.qkv = modules.group(block, {"attn.to_q", "attn.to_k", "attn.to_v"}),
            .out = modules.group(block, {"attn.to_out.0"}),
            .up = up(names.image),
            .down = down(names.image),
            .norm_q = modules.weight(block + "attn.norm_q"),
            .norm_k = modules.weight(block + "attn.norm_k"),
            .modulation = modules.linear(block + names.image.modulation)};
  text_ = {.qkv = modules.group(block, {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}),
           .out = modules.group(block, {"attn.to_add_out"}),
           .up = up(names.text),
           .down = down(names.text),
           .norm_q = modules.weight(block + "attn.norm_added_q"),
           .norm_k = modules.weight(block + "attn.norm_added_k"),
           .modulation = modules.linear(block + names.text.modulation)};
}

FusedDoubleBlock::Modulation FusedDoubleBlock::modulation(const torch::Tensor& activated) const {
  const auto parts = [&](SparseLinear linear) { return linear(activated).chunk(6, /*dim=*/1); };
  return {.text = parts(text_.modulation), .image = parts(image_.modulation)};
}

NextNorm FusedDoubleBlock::text_in(const Modulation& own) const {
  return {&text_.qkv, own.text[1], own.text[0]};
}

NextNorm FusedDoubleBlock::image_in(const Modulation& own) const {
  return {&image_.qkv, own.image[1], own.image[0]};
}

torch::Tensor FusedDoubleBlock::attend(const FusedStream& text, const FusedStream& image,
                                       const Modulation& own, const Joint& joint) const {
  // The products write v where attention reads it, if rows of both streams lie evenly there: those
  // of one image. Dense products of several layers would copy it.
  torch::Tensor v;
  std::vector<torch::Tensor> text_places, image_places;
  const std::int64_t text_tokens = text.h.size(1), image_tokens = image.h.size(1);
  if (image.h.size(0) == 1 && !image_.qkv.reads_dense()) {
    v = torch::empty({1, text_tokens + image_tokens, image.h.size(2)}, image.h.options());
    text_places = {{}, {}, v.narrow(1, 0, text_tokens)};
    image_places = {{}, {}, v.narrow(1, text_tokens, image_tokens)};
  }
  std::vector<torch::Tensor> text_qkv, image_qkv;
  side_stream_.run(
      [&] { text_qkv = text_.qkv.forward(input_of(text, text_in(own)), text_places); },
      [&] { image_qkv = image_.qkv.forward(input_of(image, image_in(own)), image_places); });
  ops::HeadStreams streams{.q = {text_qkv[0], image_qkv[0]},
                           .k = {text_qkv[1], image_qkv[1]},
                           .v = {},
                           .q_weights = {text_.norm_q, image_.norm_q},
                           .k_weights = {text_.norm_k, image_.norm_k}};
  if (!v.defined()) streams.v = {text_qkv[2], image_qkv[2]};
  ops::Heads heads = ops::head_norm(streams, joint.rotation, head_dim_);
  if (v.defined()) heads.v = v;
  return attend_heads(heads, head_dim_, joint.mask);
}

void FusedDoubleBlock::forward(FusedStream& text, FusedStream& image, const Modulation& own,
                               const Joint& joint, const Next& next) const {
  const torch::Tensor attended = attend(text, image, own, joint);
  const std::int64_t text_tokens = text.h.size(1), image_tokens = image.h.size(1);
  FusedStream text_after = text;  // what is read on the side lives until both are done
  Hidden hidden;
  side_stream_.run(
      [&] {
        if (!next.text) return;
        const torch::Tensor of_text = attended.narrow(1, 0, text_tokens);
        text_after =
            leave_mlp(text_, enter_mlp(text_, text, of_text, own.text), own.text, *next.text);
      },
      [&] {
        hidden = enter_mlp(image_, image, attended.narrow(1, text_tokens, image_tokens), own.image);
      });
  text = std::move(text_after);
  side_stream_.run(
      [&] {
        if (next.beside) next.beside();
      },
      [&] { image = leave_mlp(image_, hidden, own.image, next.image); });
}

FusedDoubleBlock::Hidden FusedDoubleBlock::enter_mlp(const Side& side, const FusedStream& stream,
                                                     const torch::Tensor& attended,
                                                     const std::vector<torch::Tensor>& own) {
  const NextNorm mlp{&side.up, own[4], own[3]};
  Hidden result;
  result.stream = advance_stream(stream, side.out.forward({.x = attended}).front(), own[2], mlp);
  if (side.down.reads_limits()) result.limit = zero_limits(stream.h);
  result.values = side.up.forward(input_of(result.stream, mlp), {}, {result.limit}).front();
  return result;
}

FusedStream FusedDoubleBlock::leave_mlp(const Side& side, const Hidden& hidden,
                                        const std::vector<torch::Tensor>& own,
                                        const NextNorm& next) {
  const torch::Tensor y = side.down.forward({.x = hidden.values, .limit = hidden.limit}).front();
  return advance_stream(hidden.stream, y, own[5], next);
}

}  // namespace rtlynx
