// SPDX-License-Identifier: Apache-2.0
#include "models/flux/groups.h"

#include <string>

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;

constexpr std::int64_t kMlpRatio = 4;

/// One stream of a double block: the names of its layers in the block.
struct Side {
  TokenStream stream;
  const char* qkv;  // the group
  const char* q;
  const char* k;
  const char* v;
  const char* out;
  const char* mlp;
  const char* modulation;
};

constexpr Side kText{.stream = TokenStream::text,
                     .qkv = "attn.to_added_qkv",
                     .q = "attn.add_q_proj",
                     .k = "attn.add_k_proj",
                     .v = "attn.add_v_proj",
                     .out = "attn.to_add_out",
                     .mlp = "ff_context",
                     .modulation = "norm1_context.linear"};
constexpr Side kImage{.stream = TokenStream::image,
                      .qkv = "attn.to_qkv",
                      .q = "attn.to_q",
                      .k = "attn.to_k",
                      .v = "attn.to_v",
                      .out = "attn.to_out.0",
                      .mlp = "ff",
                      .modulation = "norm1.linear"};

/// Collects the groups of one block.
class Block {
 public:
  Block(const FluxConfig& config, std::string name, std::vector<LayerGroup>& groups)
      : dim_(config.hidden_dim()),
        head_dim_(config.attention_head_dim),
        name_(std::move(name)),
        groups_(groups) {}

  void add_side_qkv(const Side& side) {
    add(side.qkv, side.stream, {modulated(side.modulation, 0, 1)},
        {layer(side.q, dim_), layer(side.k, dim_), layer(side.v, dim_)});
  }

  /// Attention out and MLP. Both streams' values reach the attention of each.
  void add_side_rest(const Side& side) {
    const std::string up = std::string(side.mlp) + ".net.0.proj";
    const std::string down = std::string(side.mlp) + ".net.2";
    add(side.out, side.stream, {attention({kImage.v, kText.v})}, {layer(side.out, dim_, false)});
    add(up, side.stream, {modulated(side.modulation, 3, 4)}, {layer(up, kMlpRatio * dim_)});
    add(down, side.stream, {gelu(up)}, {layer(down, dim_)});
  }

  void add_single() {
    add("to_qkv_mlp", TokenStream::joint, {modulated("norm.linear", 0, 1)},
        {layer("attn.to_q", dim_), layer("attn.to_k", dim_), layer("attn.to_v", dim_),
         layer("proj_mlp", kMlpRatio * dim_)});
    // Attention out and MLP down in one Linear: the paper leaves both dense here.
    add("proj_out", TokenStream::joint, {attention({"attn.to_v"}), gelu("proj_mlp")},
        {layer("proj_out", dim_, false)});
  }

 private:
  GroupLayer layer(const std::string& name, std::int64_t outputs, bool in_paper = true) const {
    return {name_ + name, outputs, in_paper};
  }
  InputPart modulated(const std::string& modulation, int shift, int scale) const {
    return {.maker = Maker::modulated_norm,
            .channels = dim_,
            .made_by = {name_ + modulation},
            .shift_part = shift,
            .scale_part = scale};
  }
  InputPart attention(const std::vector<std::string>& values) const {
    InputPart part{.maker = Maker::attention, .channels = dim_, .head_dim = head_dim_};
    for (const std::string& value : values) part.made_by.push_back(name_ + value);
    return part;
  }
  InputPart gelu(const std::string& up) const {
    return {.maker = Maker::gelu, .channels = kMlpRatio * dim_, .made_by = {name_ + up}};
  }

  void add(const std::string& group, TokenStream stream, std::vector<InputPart> parts,
           std::vector<GroupLayer> layers) {
    std::int64_t channels = 0;
    for (const InputPart& part : parts) channels += part.channels;
    groups_.push_back({.name = name_ + group,
                       .block = name_,
                       .stream = stream,
                       .channels = channels,
                       .parts = std::move(parts),
                       .layers = std::move(layers)});
  }

  std::int64_t dim_;
  std::int64_t head_dim_;
  std::string name_;
  std::vector<LayerGroup>& groups_;
};

}  // namespace

std::vector<LayerGroup> flux_groups(const FluxConfig& config) {
  std::vector<LayerGroup> groups;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    Block block(config, "transformer_blocks." + std::to_string(i) + ".", groups);
    block.add_side_qkv(kImage);
    block.add_side_qkv(kText);
    block.add_side_rest(kImage);
    block.add_side_rest(kText);
  }
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    Block(config, "single_transformer_blocks." + std::to_string(i) + ".", groups).add_single();
  }
  return groups;
}

}  // namespace rtlynx
