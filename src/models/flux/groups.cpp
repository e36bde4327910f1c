// SPDX-License-Identifier: Apache-2.0
#include "models/flux/groups.h"

#include <string>

namespace rtlynx {
namespace {

void add_single_block(BlockGroups block, std::int64_t dim) {
  block.add("to_qkv_mlp", TokenStream::joint, {block.modulated("norm.linear", 0, 1)},
            {block.layer("attn.to_q", dim), block.layer("attn.to_k", dim),
             block.layer("attn.to_v", dim), block.layer("proj_mlp", BlockGroups::kMlpRatio * dim)});
  // Attention out and MLP down in one Linear: the paper leaves both dense here.
  block.add("proj_out", TokenStream::joint,
            {block.attention({"attn.to_v"}), block.gelu("proj_mlp")},
            {block.layer("proj_out", dim, false)});
}

}  // namespace

std::vector<LayerGroup> flux_groups(const FluxConfig& config) {
  const std::int64_t dim = config.hidden_dim(), head_dim = config.attention_head_dim;
  std::vector<LayerGroup> groups;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    BlockGroups(dim, head_dim, "transformer_blocks." + std::to_string(i) + ".", groups)
        .add_double_block(kFluxDoubleBlock);
  }
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    const std::string block = "single_transformer_blocks." + std::to_string(i) + ".";
    add_single_block(BlockGroups(dim, head_dim, block, groups), dim);
  }
  return groups;
}

}  // namespace rtlynx
