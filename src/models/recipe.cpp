// SPDX-License-Identifier: Apache-2.0
#include "models/recipe.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace rtlynx {

std::vector<NamedLinear> named_linears(const torch::nn::Module& model) {
  std::vector<NamedLinear> found;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (auto linear = std::dynamic_pointer_cast<SparseLinearImpl>(item.value())) {
      found.push_back({item.key(), SparseLinear(linear)});
    }
  }
  return found;
}

bool in_paper_flux_recipe(const std::string& name) {
  constexpr std::array<std::string_view, 11> kSparsified = {
      ".attn.to_q",        ".attn.to_k",       ".attn.to_v",
      ".attn.add_q_proj",  ".attn.add_k_proj", ".attn.add_v_proj",
      ".ff.net.0.proj",    ".ff.net.2",        ".ff_context.net.0.proj",
      ".ff_context.net.2", ".proj_mlp"};
  return std::any_of(kSparsified.begin(), kSparsified.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

int apply_paper_flux_recipe(const torch::nn::Module& model, LinearMode mode) {
  int changed = 0;
  for (auto& [name, linear] : named_linears(model)) {
    const bool sparse = in_paper_flux_recipe(name);
    linear->set_mode(sparse ? mode : LinearMode::dense);
    changed += sparse ? 1 : 0;
  }
  return changed;
}

}  // namespace rtlynx
