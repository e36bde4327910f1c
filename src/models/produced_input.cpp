// SPDX-License-Identifier: Apache-2.0
#include "models/produced_input.h"

#include <array>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace rtlynx {
namespace {

struct Modulated {
  std::string_view modulation;              // suffix of the modulation's Linear
  std::array<std::string_view, 4> readers;  // suffixes, as many as there are
  std::int64_t shift;                       // the modulation's parts, each of one row per channel
  std::int64_t scale;
};

constexpr std::array<Modulated, 5> kModulated = {{
    {".norm1.linear", {".attn.to_q", ".attn.to_k", ".attn.to_v"}, 0, 1},
    {".norm1.linear", {".ff.net.0.proj"}, 3, 4},
    {".norm1_context.linear", {".attn.add_q_proj", ".attn.add_k_proj", ".attn.add_v_proj"}, 0, 1},
    {".norm1_context.linear", {".ff_context.net.0.proj"}, 3, 4},
    {".norm.linear", {".attn.to_q", ".attn.to_k", ".attn.to_v", ".proj_mlp"}, 0, 1},
}};

std::optional<std::string> without_suffix(const std::string& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

/// Finds what is made by a Linear, by the names of those around it.
class Finder {
 public:
  explicit Finder(const torch::nn::Module& model) : linears_(named_linears(model)) {
    for (const NamedLinear& item : linears_) by_name_.emplace(item.name, item);
    for (const auto& item : model.named_parameters()) {
      if (item.key().ends_with(".norm_q.weight")) head_dims_[item.key()] = item.value().numel();
    }
  }

  std::vector<ProducedInput> find() {
    for (const NamedLinear& item : linears_) {
      for (const Modulated& modulated : kModulated) {
        if (const auto block = without_suffix(item.name, modulated.modulation)) {
          add_modulated(*block, item, modulated);
        }
      }
      if (const auto block = without_suffix(item.name, ".attn.to_v")) add_attended(*block, item);
      if (const auto mlp = without_suffix(item.name, ".net.0.proj")) {
        add({*mlp + ".net.2"}, {through_gelu(item)});
      }
      if (const auto mlp = without_suffix(item.name, ".w3")) add_swiglu(*mlp, item);
    }
    return std::move(found_);
  }

 private:
  std::vector<NamedLinear> present(const std::vector<std::string>& names) const {
    std::vector<NamedLinear> layers;
    for (const std::string& name : names) {
      if (const auto at = by_name_.find(name); at != by_name_.end()) layers.push_back(at->second);
    }
    return layers;
  }

  void add(const std::vector<std::string>& readers, std::vector<ProducedChannels> channels) {
    const std::vector<NamedLinear> layers = present(readers);
    if (!layers.empty()) found_.push_back({.readers = layers, .channels = std::move(channels)});
  }

  void add_modulated(const std::string& block, const NamedLinear& modulation,
                     const Modulated& form) {
    std::vector<std::string> readers;
    for (const std::string_view suffix : form.readers) {
      if (!suffix.empty()) readers.push_back(block + std::string(suffix));
    }
    const std::int64_t dim = modulation.linear->in_features();
    add(readers, {{.count = dim,
                   .rows = {{.layer = modulation, .first = form.shift * dim},
                            {.layer = modulation, .first = form.scale * dim, .offset = 1}}}});
  }

  void add_attended(const std::string& block, const NamedLinear& value) {
    const auto head = head_dims_.find(block + ".attn.norm_q.weight");
    if (head == head_dims_.end()) return;
    ProducedChannels attended{.count = value.linear->out_features(), .order_block = head->second};
    for (const NamedLinear& layer : present({value.name, block + ".attn.add_v_proj"})) {
      attended.rows.push_back({.layer = layer});
    }
    add({block + ".attn.to_out.0", block + ".attn.to_add_out"}, {attended});
    for (const NamedLinear& mlp : present({block + ".proj_mlp"})) {
      add({block + ".proj_out"}, {attended, through_gelu(mlp)});
    }
  }

  static ProducedChannels through_gelu(const NamedLinear& up) {
    const std::int64_t count = up.linear->out_features();
    return {.count = count,
            .order_block = count,
            .takes_scale = false,
            .rows = {{.layer = up, .takes_scale = false}}};
  }

  void add_swiglu(const std::string& mlp, const NamedLinear& up) {
    const std::int64_t count = up.linear->out_features();
    ProducedChannels gated{.count = count, .order_block = count, .rows = {{.layer = up}}};
    for (const NamedLinear& gate : present({mlp + ".w1"})) {
      gated.rows.push_back({.layer = gate, .takes_scale = false});
    }
    add({mlp + ".w2"}, {gated});
  }

  std::vector<NamedLinear> linears_;
  std::map<std::string, NamedLinear> by_name_;
  std::map<std::string, std::int64_t> head_dims_;  // by the name of q's norm
  std::vector<ProducedInput> found_;
};

}  // namespace

std::vector<ProducedInput> produced_inputs(const torch::nn::Module& model) {
  return Finder(model).find();
}

}  // namespace rtlynx
