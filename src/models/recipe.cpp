// SPDX-License-Identifier: Apache-2.0
#include "models/recipe.h"

#include <algorithm>
#include <initializer_list>

#include "base/error.h"

namespace rtlynx {
namespace {

bool ends_with_any(const std::string& name, std::initializer_list<std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

// The paper skips o_proj and mlp.up; of a SwiGLU that is gate and up, which read one input.
bool in_paper_z_image_recipe(const std::string& name) {
  return name.starts_with("layers.") &&
         ends_with_any(
             name, {".attention.to_q", ".attention.to_k", ".attention.to_v", ".feed_forward.w2"});
}

bool in_paper_qwen_image_recipe(const std::string& name) {
  return ends_with_any(name, {".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.add_q_proj",
                              ".attn.add_k_proj", ".attn.add_v_proj", ".img_mlp.net.0.proj",
                              ".img_mlp.net.2", ".txt_mlp.net.0.proj", ".txt_mlp.net.2"});
}

}  // namespace

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
  return ends_with_any(name, {".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.add_q_proj",
                              ".attn.add_k_proj", ".attn.add_v_proj", ".ff.net.0.proj", ".ff.net.2",
                              ".ff_context.net.0.proj", ".ff_context.net.2", ".proj_mlp"});
}

LayerFilter recipe_from_string(std::string_view name) {
  if (name == "paper-flux") return in_paper_flux_recipe;
  if (name == "paper-z-image") return in_paper_z_image_recipe;
  if (name == "paper-qwen-image") return in_paper_qwen_image_recipe;
  throw UsageError("recipe: required paper-flux, paper-z-image or paper-qwen-image, got " +
                   std::string(name));
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
