// SPDX-License-Identifier: Apache-2.0
#include "models/produced_input.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace rtlynx {
namespace {

using Maker = InputPart::Maker;
using Linears = std::map<std::string, NamedLinear>;

bool made_alike(const InputPart& a, const InputPart& b) {
  return a.maker == b.maker && a.made_by == b.made_by && a.shift_part == b.shift_part &&
         a.scale_part == b.scale_part;
}

bool made_alike(const LayerGroup& a, const LayerGroup& b) {
  return std::equal(a.parts.begin(), a.parts.end(), b.parts.begin(), b.parts.end(),
                    [](const InputPart& x, const InputPart& y) { return made_alike(x, y); });
}

std::vector<ProducerRows> rows_of(const InputPart& part, const Linears& linears) {
  if (part.maker == Maker::modulated_norm) {
    const NamedLinear& modulation = linears.at(part.made_by.front());
    const ProducerRows scale{
        .layer = modulation, .first = part.scale_part * part.channels, .offset = 1};
    if (part.shift_part == InputPart::kNoPart) return {scale};
    return {{.layer = modulation, .first = part.shift_part * part.channels}, scale};
  }
  std::vector<ProducerRows> rows;
  for (const std::string& name : part.made_by) {
    // A factor passes a product: all of attention's, a SwiGLU's first.
    const bool takes_scale = part.maker == Maker::attention ||
                             (part.maker == Maker::swiglu && name == part.made_by.front());
    rows.push_back({.layer = linears.at(name), .takes_scale = takes_scale});
  }
  return rows;
}

std::int64_t order_block(const InputPart& part) {
  if (part.maker == Maker::modulated_norm) return 1;
  return part.maker == Maker::attention ? part.head_dim : part.channels;
}

ProducedInput describe(const LayerGroup& group, const Linears& linears) {
  ProducedInput input;
  for (const InputPart& part : group.parts) {
    input.channels.push_back({.count = part.channels,
                              .order_block = order_block(part),
                              .takes_scale = part.maker != Maker::gelu,
                              .rows = rows_of(part, linears)});
  }
  return input;
}

}  // namespace

std::vector<ProducedInput> produced_inputs(const torch::nn::Module& model,
                                           const std::vector<LayerGroup>& groups) {
  Linears linears;
  for (const NamedLinear& item : named_linears(model)) linears.emplace(item.name, item);
  std::vector<std::pair<const LayerGroup*, ProducedInput>> found;
  for (const LayerGroup& group : groups) {
    const bool known = std::none_of(group.parts.begin(), group.parts.end(),
                                    [](const auto& part) { return part.maker == Maker::other; });
    if (!known) continue;
    auto at = std::find_if(found.begin(), found.end(),
                           [&](const auto& item) { return made_alike(*item.first, group); });
    if (at == found.end()) at = found.insert(at, {&group, describe(group, linears)});
    for (const GroupLayer& layer : group.layers) {
      at->second.readers.push_back(linears.at(layer.name));
    }
  }
  std::vector<ProducedInput> inputs;
  for (auto& [group, input] : found) inputs.push_back(std::move(input));
  return inputs;
}

}  // namespace rtlynx
