// SPDX-License-Identifier: Apache-2.0
#include "models/double_block_groups.h"

#include <utility>

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;

/// One stream's attention layers, by their names in the block.
struct Projections {
  TokenStream stream;
  const char* qkv;  // the group
  const char* q;
  const char* k;
  const char* v;
  const char* out;
};

constexpr Projections kText{.stream = TokenStream::text,
                            .qkv = "attn.to_added_qkv",
                            .q = "attn.add_q_proj",
                            .k = "attn.add_k_proj",
                            .v = "attn.add_v_proj",
                            .out = "attn.to_add_out"};
constexpr Projections kImage{.stream = TokenStream::image,
                             .qkv = "attn.to_qkv",
                             .q = "attn.to_q",
                             .k = "attn.to_k",
                             .v = "attn.to_v",
                             .out = "attn.to_out.0"};

}  // namespace

void BlockGroups::add_double_block(const DoubleBlockNames& names) {
  const auto add_qkv = [&](const Projections& own, const DoubleBlockNames::Side& side) {
    add(own.qkv, own.stream, {modulated(side.modulation, 0, 1)},
        {layer(own.q, dim_), layer(own.k, dim_), layer(own.v, dim_)});
  };
  const auto add_rest = [&](const Projections& own, const DoubleBlockNames::Side& side) {
    const std::string up = std::string(side.mlp) + ".net.0.proj";
    const std::string down = std::string(side.mlp) + ".net.2";
    // Both streams' values reach the attention of each.
    add(own.out, own.stream, {attention({kImage.v, kText.v})}, {layer(own.out, dim_, false)});
    add(up, own.stream, {modulated(side.modulation, 3, 4)}, {layer(up, kMlpRatio * dim_)});
    add(down, own.stream, {gelu(up)}, {layer(down, dim_)});
  };
  add_qkv(kImage, names.image);
  add_qkv(kText, names.text);
  add_rest(kImage, names.image);
  add_rest(kText, names.text);
}

InputPart BlockGroups::modulated(const std::string& modulation, int shift, int scale) const {
  return {.maker = Maker::modulated_norm,
          .channels = dim_,
          .made_by = {block_ + modulation},
          .shift_part = shift,
          .scale_part = scale};
}

InputPart BlockGroups::attention(const std::vector<std::string>& values) const {
  InputPart part{.maker = Maker::attention, .channels = dim_, .head_dim = head_dim_};
  for (const std::string& value : values) part.made_by.push_back(block_ + value);
  return part;
}

InputPart BlockGroups::gelu(const std::string& up) const {
  return {.maker = Maker::gelu, .channels = kMlpRatio * dim_, .made_by = {block_ + up}};
}

void BlockGroups::add(const std::string& group, TokenStream stream, std::vector<InputPart> parts,
                      std::vector<GroupLayer> layers) {
  std::int64_t channels = 0;
  for (const InputPart& part : parts) channels += part.channels;
  groups_.push_back({.name = block_ + group,
                     .block = block_,
                     .stream = stream,
                     .channels = channels,
                     .parts = std::move(parts),
                     .layers = std::move(layers)});
}

}  // namespace rtlynx
