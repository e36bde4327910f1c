// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/file.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/autoencoder_kl_qwen_image.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// As in FLUX.1's and Z-Image's vae/config.json.
json kl() {
  return {{"_class_name", "AutoencoderKL"},
          {"_diffusers_version", "0.30.0"},
          {"act_fn", "silu"},
          {"block_out_channels", {128, 256, 512, 512}},
          {"down_block_types", std::vector<std::string>(4, "DownEncoderBlock2D")},
          {"up_block_types", std::vector<std::string>(4, "UpDecoderBlock2D")},
          {"force_upcast", true},
          {"in_channels", 3},
          {"out_channels", 3},
          {"latent_channels", 16},
          {"latents_mean", nullptr},
          {"latents_std", nullptr},
          {"layers_per_block", 2},
          {"mid_block_add_attention", true},
          {"norm_num_groups", 32},
          {"sample_size", 1024},
          {"scaling_factor", 0.3611},
          {"shift_factor", 0.1159},
          {"use_post_quant_conv", false},
          {"use_quant_conv", false}};
}

// As diffusers' defaults are, which Qwen-Image uses.
json qwen_image() {
  return {{"_class_name", "AutoencoderKLQwenImage"},
          {"base_dim", 96},
          {"z_dim", 2},
          {"dim_mult", {1, 2, 4, 4}},
          {"num_res_blocks", 2},
          {"attn_scales", json::array()},
          {"temperal_downsample", {false, true, true}},
          {"dropout", 0.0},
          {"latents_mean", {-0.7571, 0.1}},
          {"latents_std", {2.8184, 1}}};
}

std::string kl_with(const char* key, const json& value) {
  json config = kl();
  config[key] = value;
  return refusal([&] { autoencoder_kl_config_from_json(config, "config.json"); });
}

std::string qwen_image_with(const char* key, const json& value) {
  json config = qwen_image();
  config[key] = value;
  return refusal([&] { autoencoder_kl_qwen_image_config_from_json(config, "config.json"); });
}

TEST(AutoencoderKlConfig, FluxIsRead) {
  const AutoencoderKlConfig config = autoencoder_kl_config_from_json(kl(), "config.json");
  EXPECT_EQ(config.latent_channels, 16);
  EXPECT_EQ(config.shift_factor, 0.1159);
  const auto vae = make_autoencoder_kl(config, torch::TensorOptions().device(torch::kMeta));
  EXPECT_EQ(vae->factor(), 8);
  std::int64_t numbers = 0;
  for (const auto& parameter : vae->parameters()) numbers += parameter.numel();
  // Of the real checkpoint.
  EXPECT_EQ(vae->parameters().size(), 244u);
  EXPECT_EQ(numbers, 83819683);
}

TEST(AutoencoderKlConfig, WhatIsNotImplementedIsRefusedByName) {
  EXPECT_THAT(kl_with("_class_name", "AutoencoderTiny"), HasSubstr("got AutoencoderTiny"));
  EXPECT_THAT(kl_with("use_quant_conv", true), HasSubstr("required use_quant_conv = false"));
  EXPECT_THAT(kl_with("mid_block_add_attention", false), HasSubstr("mid_block_add_attention"));
  EXPECT_THAT(kl_with("act_fn", "relu"), HasSubstr("required act_fn = \"silu\", got \"relu\""));
  EXPECT_THAT(kl_with("latents_std", {1.0}), HasSubstr("latents_std"));
  EXPECT_THAT(kl_with("block_out_channels", {128, 250}), HasSubstr("norm_num_groups = 32"));
  EXPECT_THAT(kl_with("up_block_types", {"UpDecoderBlock2D"}), HasSubstr("up_block_types: 4 of"));
  EXPECT_THAT(kl_with("gate", 1), HasSubstr("\"gate\": 1, which is not supported"));
  json absent = kl();
  absent.erase("use_quant_conv");
  EXPECT_THAT(refusal([&] { autoencoder_kl_config_from_json(absent, "config.json"); }),
              HasSubstr("required use_quant_conv = false, got true"))
      << "diffusers' default";
}

TEST(AutoencoderKlQwenImageConfig, IsReadAndHasTheDecodersSize) {
  json config = qwen_image();
  config["z_dim"] = 16;
  config["latents_mean"] = std::vector<double>(16, 0);
  config["latents_std"] = std::vector<double>(16, 1);
  const auto vae = make_autoencoder_kl_qwen_image(
      autoencoder_kl_qwen_image_config_from_json(config, "config.json"),
      torch::TensorOptions().device(torch::kMeta));
  EXPECT_EQ(vae->factor(), 8);
  EXPECT_EQ(vae->latent_channels(), 16);
  // The real checkpoint's 194 tensors without its four convolutions over time.
  EXPECT_EQ(vae->parameters().size(), 194u - 8u);
}

TEST(AutoencoderKlQwenImageConfig, WhatIsNotImplementedIsRefusedByName) {
  EXPECT_THAT(qwen_image_with("_class_name", "AutoencoderKLWan"), HasSubstr("AutoencoderKLWan"));
  EXPECT_THAT(qwen_image_with("attn_scales", {0.5}), HasSubstr("required attn_scales []"));
  EXPECT_THAT(qwen_image_with("latents_mean", {1.0}), HasSubstr("latents_mean: 2 numbers"));
  EXPECT_THAT(qwen_image_with("latents_std", {1.0, 0.0}), HasSubstr("2 positive numbers"));
  EXPECT_THAT(qwen_image_with("temperal_downsample", {true}), HasSubstr("3 of true or false"));
  EXPECT_THAT(qwen_image_with("is_residual", true), HasSubstr("\"is_residual\""));
  EXPECT_THAT(qwen_image_with("input_channels", 4), HasSubstr("input_channels"));
}

TEST(LoadVae, AFolderOfAnotherClassIsRefused) {
  const test::TempDir folder;
  write_file_atomically(folder / "config.json", R"({"_class_name": "AsymmetricAutoencoderKL"})");
  EXPECT_THAT(refusal([&] { load_vae(folder.path(), torch::kFloat32); }),
              HasSubstr("got AsymmetricAutoencoderKL"));
}

}  // namespace
}  // namespace rtlynx
