// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/groups.h"

#include <string>
#include <utility>

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;

/// One of the three lists of blocks, which differ in whose tokens they see.
struct Kind {
  const char* name;
  TokenStream stream;
  bool modulated;
  bool in_paper;  // the paper sparsifies qkv and w2 of them
};

constexpr Kind kNoiseRefiner{"noise_refiner", TokenStream::image, true, false};
constexpr Kind kContextRefiner{"context_refiner", TokenStream::text, false, false};
constexpr Kind kLayers{"layers", TokenStream::joint, true, true};

void add_block(const ZImageConfig& config, const Kind& kind, std::int64_t index,
               std::vector<LayerGroup>& groups) {
  const std::string block = std::string(kind.name) + "." + std::to_string(index) + ".";
  const std::string attention = block + "attention.", mlp = block + "feed_forward.";
  // A norm that only has a weight is made by no Linear.
  const auto normed = [&](std::int64_t scale_part) -> InputPart {
    if (!kind.modulated) return {.maker = Maker::other, .channels = config.dim};
    return {.maker = Maker::modulated_norm,
            .channels = config.dim,
            .made_by = {block + "adaLN_modulation.0"},
            .shift_part = InputPart::kNoPart,
            .scale_part = scale_part};
  };
  const auto add = [&](const std::string& name, InputPart part, std::vector<GroupLayer> layers) {
    groups.push_back({.name = name,
                      .block = block,
                      .stream = kind.stream,
                      .channels = part.channels,
                      .parts = {std::move(part)},
                      .layers = std::move(layers)});
  };
  const std::int64_t dim = config.dim, wide = config.mlp_dim();
  add(attention + "to_qkv", normed(0),
      {{attention + "to_q", dim, kind.in_paper},
       {attention + "to_k", dim, kind.in_paper},
       {attention + "to_v", dim, kind.in_paper}});
  add(attention + "to_out.0",
      {.maker = Maker::attention,
       .channels = dim,
       .made_by = {attention + "to_v"},
       .head_dim = config.head_dim()},
      {{attention + "to_out.0", dim, false}});
  add(mlp + "w13", normed(2), {{mlp + "w1", wide, false}, {mlp + "w3", wide, false}});
  add(mlp + "w2", {.maker = Maker::swiglu, .channels = wide, .made_by = {mlp + "w3", mlp + "w1"}},
      {{mlp + "w2", dim, kind.in_paper}});
}

}  // namespace

std::vector<LayerGroup> z_image_groups(const ZImageConfig& config) {
  std::vector<LayerGroup> groups;
  const auto add_blocks = [&](const Kind& kind, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) add_block(config, kind, i, groups);
  };
  add_blocks(kNoiseRefiner, config.n_refiner_layers);
  add_blocks(kContextRefiner, config.n_refiner_layers);
  add_blocks(kLayers, config.n_layers);
  return groups;
}

}  // namespace rtlynx
