// SPDX-License-Identifier: Apache-2.0
// How other programs name what diffusers names as this one does.
#include <array>
#include <utility>

#include "models/checkpoint/layer_names.h"

namespace rtlynx {
namespace {

using Names = std::vector<std::string>;

/// Collects modules of one block, whose names here and there begin alike.
class BlockModules {
 public:
  BlockModules(std::vector<ForeignModule>& modules, std::string theirs, std::string ours)
      : modules_(modules), theirs_(std::move(theirs)), ours_(std::move(ours)) {}

  void add(const std::string& theirs, const Names& ours) {
    ForeignModule module{.name = theirs_ + theirs};
    for (const std::string& part : ours) module.parts.push_back(ours_ + part);
    modules_.push_back(std::move(module));
  }
  void add_scale(const std::string& theirs, const std::string& ours) {
    add(theirs, {ours});
    modules_.back().weight = "scale";
  }

 private:
  std::vector<ForeignModule>& modules_;
  std::string theirs_, ours_;
};

void add_flux_double_block(std::vector<ForeignModule>& modules, const std::string& index) {
  BlockModules block(modules, "double_blocks." + index + ".", "transformer_blocks." + index + ".");
  const Names image_qkv = {"attn.to_q", "attn.to_k", "attn.to_v"};
  const Names text_qkv = {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"};
  block.add("img_attn.qkv", image_qkv);
  block.add("txt_attn.qkv", text_qkv);
  block.add("img_attn.proj", {"attn.to_out.0"});
  block.add("txt_attn.proj", {"attn.to_add_out"});
  block.add("img_mlp.0", {"ff.net.0.proj"});
  block.add("img_mlp.2", {"ff.net.2"});
  block.add("txt_mlp.0", {"ff_context.net.0.proj"});
  block.add("txt_mlp.2", {"ff_context.net.2"});
  block.add("img_mod.lin", {"norm1.linear"});
  block.add("txt_mod.lin", {"norm1_context.linear"});
  block.add_scale("img_attn.norm.query_norm", "attn.norm_q");
  block.add_scale("img_attn.norm.key_norm", "attn.norm_k");
  block.add_scale("txt_attn.norm.query_norm", "attn.norm_added_q");
  block.add_scale("txt_attn.norm.key_norm", "attn.norm_added_k");
  // XLabs: 1 is the image, 2 the text.
  block.add("processor.qkv_lora1", image_qkv);
  block.add("processor.qkv_lora2", text_qkv);
  block.add("processor.proj_lora1", {"attn.to_out.0"});
  block.add("processor.proj_lora2", {"attn.to_add_out"});
}

void add_flux_single_block(std::vector<ForeignModule>& modules, const std::string& index) {
  BlockModules block(modules, "single_blocks." + index + ".",
                     "single_transformer_blocks." + index + ".");
  block.add("linear1", {"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"});
  block.add("linear2", {"proj_out"});
  block.add("modulation.lin", {"norm.linear"});
  block.add_scale("norm.query_norm", "attn.norm_q");
  block.add_scale("norm.key_norm", "attn.norm_k");
  block.add("processor.qkv_lora", {"attn.to_q", "attn.to_k", "attn.to_v"});
  block.add("processor.proj_lora", {"proj_out"});
}

}  // namespace

std::vector<ForeignModule> flux_foreign_modules(std::int64_t double_blocks,
                                                std::int64_t single_blocks) {
  std::vector<ForeignModule> modules;
  for (std::int64_t i = 0; i < double_blocks; ++i) {
    add_flux_double_block(modules, std::to_string(i));
  }
  for (std::int64_t i = 0; i < single_blocks; ++i) {
    add_flux_single_block(modules, std::to_string(i));
  }
  BlockModules outside(modules, "", "");
  outside.add("img_in", {"x_embedder"});
  outside.add("txt_in", {"context_embedder"});
  outside.add("final_layer.linear", {"proj_out"});
  // Scale and shift, which stand the other way round there.
  outside.add("final_layer.adaLN_modulation.1", {"norm_out.linear"});
  modules.back().halves_swapped = true;
  constexpr std::array<std::pair<const char*, const char*>, 3> kEmbedders = {
      {{"time_in", "timestep_embedder"},
       {"guidance_in", "guidance_embedder"},
       {"vector_in", "text_embedder"}}};
  for (const auto& [theirs, ours] : kEmbedders) {
    const std::string embedder = "time_text_embed." + std::string(ours);
    outside.add(std::string(theirs) + ".in_layer", {embedder + ".linear_1"});
    outside.add(std::string(theirs) + ".out_layer", {embedder + ".linear_2"});
  }
  return modules;
}

std::vector<ForeignModule> z_image_foreign_modules(const Names& blocks) {
  std::vector<ForeignModule> modules;
  for (const std::string& name : blocks) {
    BlockModules block(modules, name + ".attention.", name + ".attention.");
    block.add("qkv", {"to_q", "to_k", "to_v"});
    block.add("out", {"to_out.0"});
    block.add("q_norm", {"norm_q"});
    block.add("k_norm", {"norm_k"});
  }
  BlockModules outside(modules, "", "");
  outside.add("x_embedder", {"all_x_embedder.2-1"});
  outside.add("final_layer.linear", {"all_final_layer.2-1.linear"});
  outside.add("final_layer.adaLN_modulation.1", {"all_final_layer.2-1.adaLN_modulation.1"});
  return modules;
}

}  // namespace rtlynx
