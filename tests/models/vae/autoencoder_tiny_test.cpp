// SPDX-License-Identifier: Apache-2.0
#include "models/vae/autoencoder_tiny.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "io/json.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// As in TAEF1's config.json.
json taef1() {
  return {{"_class_name", "AutoencoderTiny"},
          {"_diffusers_version", "0.30.0"},
          {"act_fn", "relu"},
          {"block_out_channels", std::vector<int>(4, 64)},
          {"decoder_block_out_channels", std::vector<int>(4, 64)},
          {"encoder_block_out_channels", std::vector<int>(4, 64)},
          {"force_upcast", false},
          {"in_channels", 3},
          {"latent_channels", 16},
          {"latent_magnitude", 3},
          {"latent_shift", 0.5},
          {"num_decoder_blocks", {3, 3, 3, 1}},
          {"num_encoder_blocks", {1, 3, 3, 3}},
          {"out_channels", 3},
          {"scaling_factor", 1.0},
          {"shift_factor", 0.0},
          {"upsampling_scaling_factor", 2}};
}

std::string taef1_with(const char* key, const json& value) {
  json config = taef1();
  config[key] = value;
  return refusal([&] { autoencoder_tiny_config_from_json(config, "config.json"); });
}

TEST(AutoencoderTinyConfig, Taef1IsRead) {
  const AutoencoderTinyConfig config = autoencoder_tiny_config_from_json(taef1(), "config.json");
  const TinyDecoder decoder(config, torch::TensorOptions().device(torch::kMeta));
  EXPECT_EQ(decoder.factor(), 8);
  EXPECT_EQ(decoder.latent_channels(), 16);
  std::int64_t numbers = 0;
  for (const auto& parameter : decoder.parameters()) numbers += parameter.numel();
  // conv_in; 10 blocks of 3; three convolutions without bias, the last with it. Of TAEF1's 134
  // tensors the encoder has the other 67.
  EXPECT_EQ(decoder.parameters().size(), 2u + 60u + 3u + 2u);
  EXPECT_EQ(numbers,
            (16 * 9 + 1) * 64 + 30 * (64 * 9 + 1) * 64 + 3 * 64 * 9 * 64 + 3 * (64 * 9 + 1));
}

TEST(AutoencoderTinyConfig, WhatIsNotImplementedIsRefusedByName) {
  EXPECT_THAT(taef1_with("_class_name", "AutoencoderKL"), HasSubstr("got AutoencoderKL"));
  EXPECT_THAT(taef1_with("act_fn", "mish"), HasSubstr("required act_fn relu, got mish"));
  EXPECT_THAT(taef1_with("upsample_fn", "bilinear"), HasSubstr("upsample_fn nearest"));
  EXPECT_THAT(taef1_with("upsampling_scaling_factor", 3), HasSubstr("upsampling_scaling_factor"));
  EXPECT_THAT(taef1_with("out_channels", 4), HasSubstr("out_channels"));
  EXPECT_THAT(taef1_with("num_decoder_blocks", json::array()), HasSubstr("1 to 8 numbers, got 0"));
  EXPECT_THAT(taef1_with("decoder_block_out_channels", {64, 64}), HasSubstr("4 equal numbers"));
  EXPECT_THAT(taef1_with("decoder_block_out_channels", {64, 64, 64, 32}),
              HasSubstr("4 equal numbers, got [64,64,64,32]"));
  EXPECT_THAT(taef1_with("gate", 1), HasSubstr("\"gate\": 1, which is not supported"));
}

class TinyDecoderTest : public testing::Test {
 protected:
  std::shared_ptr<TinyDecoder> decoder_ = load_tiny_decoder(
      std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / "vae_tiny", torch::kFloat32);
};

TEST_F(TinyDecoderTest, PicturesOfABatchDoNotDependOnEachOther) {
  const torch::Tensor latents = torch::randn({3, 4, 4, 6});
  const torch::Tensor together = decoder_->decode(latents);
  EXPECT_EQ(together.sizes(), (std::vector<std::int64_t>{3, 3, 16, 24}));
  EXPECT_TRUE(together.narrow(0, 1, 1).equal(decoder_->decode(latents.narrow(0, 1, 1))));
}

TEST_F(TinyDecoderTest, ScaleAndShiftLeadBackToItsOwnLatents) {
  const AutoencoderTinyConfig scaled{.latent_channels = 4,
                                     .channels = 8,
                                     .num_decoder_blocks = {2, 1, 1},
                                     .scaling_factor = 0.5,
                                     .shift_factor = 0.25};
  TinyDecoder other(scaled, torch::kFloat32);
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < other.parameters().size(); ++i) {
    other.parameters()[i].copy_(decoder_->parameters()[i]);
  }
  const torch::Tensor latents = torch::randn({1, 4, 4, 6});
  EXPECT_TRUE(
      torch::allclose(other.decode(0.5 * (latents - 0.25)), decoder_->decode(latents), 1e-4, 1e-5));
}

TEST_F(TinyDecoderTest, ShapesAndValuesAreChecked) {
  EXPECT_EQ(refusal([&] {
              decoder_->decode(torch::zeros({1, 16, 4, 4}));
            }),
            "AutoencoderTiny: required latents [B, 4, h, w], got [1, 16, 4, 4]");
  EXPECT_THAT(refusal([&] {
                decoder_->decode(torch::full({1, 4, 4, 4}, std::numeric_limits<float>::infinity()));
              }),
              HasSubstr("AutoencoderTiny's latents: required finite values"));
}

}  // namespace
}  // namespace rtlynx
