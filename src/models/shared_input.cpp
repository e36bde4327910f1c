// SPDX-License-Identifier: Apache-2.0
#include "models/shared_input.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace rtlynx {
namespace {

struct Fused {
  std::string_view prefix;  // of the layer's name
  std::string_view suffix;  // of the layer's name, replaced by `group`
  std::string_view group;
};

constexpr std::array<Fused, 10> kFused = {{
    {"single_transformer_blocks.", ".attn.to_q", ".to_qkv_mlp"},
    {"single_transformer_blocks.", ".attn.to_k", ".to_qkv_mlp"},
    {"single_transformer_blocks.", ".attn.to_v", ".to_qkv_mlp"},
    {"single_transformer_blocks.", ".proj_mlp", ".to_qkv_mlp"},
    {"transformer_blocks.", ".attn.to_q", ".attn.to_qkv"},
    {"transformer_blocks.", ".attn.to_k", ".attn.to_qkv"},
    {"transformer_blocks.", ".attn.to_v", ".attn.to_qkv"},
    {"transformer_blocks.", ".attn.add_q_proj", ".attn.to_added_qkv"},
    {"transformer_blocks.", ".attn.add_k_proj", ".attn.to_added_qkv"},
    {"transformer_blocks.", ".attn.add_v_proj", ".attn.to_added_qkv"},
}};

}  // namespace

std::string input_group(const std::string& layer) {
  for (const Fused& fused : kFused) {
    if (layer.starts_with(fused.prefix) && layer.ends_with(fused.suffix)) {
      return layer.substr(0, layer.size() - fused.suffix.size()).append(fused.group);
    }
  }
  return layer;
}

bool input_order_is_free(const std::string& layer) {
  return layer.ends_with(".net.2") || layer.ends_with(".feed_forward.w2");
}

std::vector<SharedInput> input_groups(const torch::nn::Module& model,
                                      const std::function<bool(const std::string& layer)>& wanted) {
  std::vector<SharedInput> groups;
  for (const NamedLinear& item : named_linears(model)) {
    if (!wanted(item.name)) continue;
    const std::string name = input_group(item.name);
    const auto known = std::find_if(groups.begin(), groups.end(),
                                    [&](const SharedInput& group) { return group.name == name; });
    if (known != groups.end()) {
      known->layers.push_back(item);
    } else {
      groups.push_back({.name = name, .layers = {item}});
    }
  }
  return groups;
}

}  // namespace rtlynx
