// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/layer_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/qwen_image/transformer.h"
#include "models/z_image/transformer.h"

namespace rtlynx {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// The layers behind a name, as "layer from row first".
std::vector<std::string> layers_behind(const LayerNames& names, std::string_view name) {
  std::vector<std::string> layers;
  if (const LoraTarget* target = names.find(name)) {
    for (const LayerRows& part : target->parts) {
      layers.push_back(part.layer.name + " " + std::to_string(part.first_row));
    }
  }
  return layers;
}

class FluxLayerNames : public testing::Test {
 protected:
  FluxTransformer model_{test::small_flux_config()};  // 32 channels
  LayerNames names_{linear_shapes(*model_), flux_foreign_modules(1, 1)};
};

TEST_F(FluxLayerNames, OurOwnWithEveryPrefix) {
  for (const char* prefix : {"", "transformer.", "diffusion_model.", "model.diffusion_model.",
                             "base_model.model.", "base_model.model.transformer."}) {
    EXPECT_THAT(layers_behind(names_, std::string(prefix) + "transformer_blocks.0.attn.to_out.0"),
                ElementsAre("transformer_blocks.0.attn.to_out.0 0"));
  }
}

TEST_F(FluxLayerNames, FusedProjectionsAreTheirParts) {
  EXPECT_THAT(layers_behind(names_, "diffusion_model.double_blocks.0.txt_attn.qkv"),
              ElementsAre("transformer_blocks.0.attn.add_q_proj 0",
                          "transformer_blocks.0.attn.add_k_proj 32",
                          "transformer_blocks.0.attn.add_v_proj 64"));
  EXPECT_THAT(layers_behind(names_, "lora_unet_single_blocks_0_linear1"),
              ElementsAre("single_transformer_blocks.0.attn.to_q 0",
                          "single_transformer_blocks.0.attn.to_k 32",
                          "single_transformer_blocks.0.attn.to_v 64",
                          "single_transformer_blocks.0.proj_mlp 96"));
  EXPECT_THAT(layers_behind(names_, "double_blocks.0.processor.qkv_lora1"),
              ElementsAre("transformer_blocks.0.attn.to_q 0", "transformer_blocks.0.attn.to_k 32",
                          "transformer_blocks.0.attn.to_v 64"));
}

TEST_F(FluxLayerNames, EveryLayerHasAnOriginalName) {
  std::set<std::string> reached;
  for (const ForeignModule& module : flux_foreign_modules(1, 1)) {
    if (module.name.find("processor") == std::string::npos) {
      reached.insert(module.parts.begin(), module.parts.end());
    }
  }
  for (const LinearShape& layer : linear_shapes(*model_)) {
    EXPECT_TRUE(reached.contains(layer.name)) << layer.name;
  }
}

TEST_F(FluxLayerNames, KohyasNamesOfOurLayers) {
  EXPECT_THAT(layers_behind(names_, "lora_transformer_transformer_blocks_0_ff_net_0_proj"),
              ElementsAre("transformer_blocks.0.ff.net.0.proj 0"));
  EXPECT_THAT(layers_behind(names_, "lora_unet_double_blocks_0_img_mlp_0"),
              ElementsAre("transformer_blocks.0.ff.net.0.proj 0"));
}

TEST_F(FluxLayerNames, NothingElseIsFound) {
  for (const char* name :
       {"", "transformer.", "double_blocks.1.img_attn.qkv", "lora_te1_layer",
        "transformer_blocks_0_attn_to_q", "double_blocks.0.img_attn.norm.query_norm",
        "lora_unet_double_blocks.0.img_attn.qkv"}) {
    EXPECT_THAT(layers_behind(names_, name), IsEmpty()) << name;
  }
}

TEST_F(FluxLayerNames, ScaleAndShiftStandTheOtherWayRound) {
  ASSERT_NE(names_.find("final_layer.adaLN_modulation.1"), nullptr);
  EXPECT_TRUE(names_.find("final_layer.adaLN_modulation.1")->halves_swapped);
  EXPECT_FALSE(names_.find("norm_out.linear")->halves_swapped);
}

// The layers of Z-Image and Qwen-Image, by the names in their checkpoints.
TEST(LayerNames, ZImage) {
  std::vector<LinearShape> layers;
  for (const char* name :
       {"layers.0.attention.to_q", "layers.0.attention.to_k", "layers.0.attention.to_v",
        "layers.0.attention.to_out.0", "layers.0.feed_forward.w1", "all_x_embedder.2-1"}) {
    layers.push_back({.name = name, .out = 8, .in = 8});
  }
  const LayerNames names(layers, z_image_foreign_modules({"layers.0", "noise_refiner.0"}));
  const auto qkv = ElementsAre("layers.0.attention.to_q 0", "layers.0.attention.to_k 8",
                               "layers.0.attention.to_v 16");
  EXPECT_THAT(layers_behind(names, "diffusion_model.layers.0.attention.qkv"), qkv);
  EXPECT_THAT(layers_behind(names, "lora_unet_layers_0_attention_qkv"), qkv);
  EXPECT_THAT(layers_behind(names, "diffusion_model.layers.0.attention.out"),
              ElementsAre("layers.0.attention.to_out.0 0"));
  EXPECT_THAT(layers_behind(names, "lora_unet_layers_0_attention_to_out_0"),
              ElementsAre("layers.0.attention.to_out.0 0"));
  EXPECT_THAT(layers_behind(names, "transformer.layers.0.feed_forward.w1"),
              ElementsAre("layers.0.feed_forward.w1 0"));
  EXPECT_THAT(layers_behind(names, "diffusion_model.x_embedder"),
              ElementsAre("all_x_embedder.2-1 0"));
  // Its parts are not layers of this model.
  EXPECT_THAT(layers_behind(names, "noise_refiner.0.attention.qkv"), IsEmpty());
}

TEST(LayerNames, QwenImage) {
  const LayerNames names({{.name = "transformer_blocks.0.attn.add_q_proj", .out = 8, .in = 8},
                          {.name = "transformer_blocks.0.img_mlp.net.0.proj", .out = 8, .in = 8}},
                         {});
  for (const char* name : {"transformer.transformer_blocks.0.img_mlp.net.0.proj",
                           "diffusion_model.transformer_blocks.0.img_mlp.net.0.proj",
                           "lora_unet_transformer_blocks_0_img_mlp_net_0_proj"}) {
    EXPECT_THAT(layers_behind(names, name),
                ElementsAre("transformer_blocks.0.img_mlp.net.0.proj 0"));
  }
}

/// The transformers in their real sizes, without values.
class OutlineLayerNames : public testing::Test {
 protected:
  static torch::TensorOptions meta() { return torch::TensorOptions(torch::kMeta); }

  /// Every layer is found as `prefix` and its name, with all its rows.
  static void expect_every_layer(const LayerNames& names, const std::vector<LinearShape>& layers,
                                 const std::string& prefix, bool underscored = false) {
    for (const LinearShape& layer : layers) {
      std::string name = layer.name;
      if (underscored) std::replace(name.begin(), name.end(), '.', '_');
      const LoraTarget* target = names.find(prefix + name);
      ASSERT_NE(target, nullptr) << prefix + name;
      ASSERT_EQ(target->parts.size(), 1U);
      EXPECT_EQ(target->parts[0].layer.name, layer.name);
      EXPECT_EQ(target->parts[0].layer.out, layer.out);
    }
  }
};

TEST_F(OutlineLayerNames, QwenImage) {
  const QwenImageTransformer outline(QwenImageConfig{}, meta());
  const std::vector<LinearShape> layers = linear_shapes(*outline);
  EXPECT_EQ(layers.size(), 60U * 14 + 6);
  const LayerNames names(layers, {});
  for (const char* peft_or_comfy :
       {"transformer.", "base_model.model.", "base_model.model.transformer.", "diffusion_model.",
        "model.diffusion_model.", ""}) {
    expect_every_layer(names, layers, peft_or_comfy);
  }
  expect_every_layer(names, layers, "lora_unet_", /*underscored=*/true);
  // As LoRAs of Qwen-Image have them.
  for (const char* name :
       {"transformer_blocks.59.attn.add_k_proj", "transformer_blocks.0.img_mod.1",
        "diffusion_model.transformer_blocks.7.txt_mlp.net.0.proj",
        "transformer.transformer_blocks.7.attn.to_add_out",
        "lora_unet_transformer_blocks_59_img_mlp_net_2"}) {
    EXPECT_NE(names.find(name), nullptr) << name;
  }
  EXPECT_EQ(names.find("transformer_blocks.60.attn.to_q"), nullptr);
  EXPECT_EQ(names.find("transformer_blocks.0.attn.norm_q"), nullptr);
}

TEST_F(OutlineLayerNames, ZImage) {
  const ZImageTransformer outline(ZImageConfig{}, meta());
  const std::vector<LinearShape> layers = linear_shapes(*outline);
  std::vector<std::string> blocks;
  for (int i = 0; i < 30; ++i) blocks.push_back("layers." + std::to_string(i));
  for (const char* list : {"noise_refiner.", "context_refiner."}) {
    for (int i = 0; i < 2; ++i) blocks.push_back(list + std::to_string(i));
  }
  const LayerNames names(layers, z_image_foreign_modules(blocks));
  for (const char* peft_or_comfy :
       {"transformer.", "base_model.model.", "diffusion_model.", "model.diffusion_model.", ""}) {
    expect_every_layer(names, layers, peft_or_comfy);
  }
  expect_every_layer(names, layers, "lora_unet_", /*underscored=*/true);
  for (const std::string& block : blocks) {
    const LoraTarget* qkv = names.find("diffusion_model." + block + ".attention.qkv");
    ASSERT_NE(qkv, nullptr) << block;
    ASSERT_EQ(qkv->parts.size(), 3U);
    EXPECT_EQ(qkv->parts[2].layer.name, block + ".attention.to_v");
    EXPECT_EQ(qkv->parts[2].first_row, 2 * 3840);
    EXPECT_NE(names.find("diffusion_model." + block + ".attention.out"), nullptr) << block;
  }
  for (const char* name :
       {"diffusion_model.layers.29.adaLN_modulation.0",
        "transformer.context_refiner.1.feed_forward.w3", "diffusion_model.final_layer.linear",
        "diffusion_model.x_embedder", "lora_unet_layers_29_attention_qkv"}) {
    EXPECT_NE(names.find(name), nullptr) << name;
  }
  EXPECT_EQ(names.find("layers.30.attention.qkv"), nullptr);
}

}  // namespace
}  // namespace rtlynx
