// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

nlohmann::json minimal() { return {{"_class_name", "QwenImageTransformer2DModel"}}; }

std::string refusal(const nlohmann::json& json) {
  try {
    qwen_image_config_from_json(json, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(QwenImageConfig, DefaultsAreDiffusers) {
  const QwenImageConfig config = qwen_image_config_from_json(minimal(), "config.json");
  EXPECT_EQ(config.num_layers, 60);
  EXPECT_EQ(config.hidden_dim(), 3072);
  EXPECT_EQ(config.out_channels, 16);
  EXPECT_EQ(config.joint_attention_dim, 3584);
  EXPECT_EQ(config.axes_dims_rope, (std::vector<std::int64_t>{16, 56, 56}));
}

TEST(QwenImageConfig, NullOutChannelsAreInChannels) {
  auto json = minimal();
  json["in_channels"] = 48;
  EXPECT_EQ(qwen_image_config_from_json(json, "c").out_channels, 16);
  json["out_channels"] = nullptr;
  EXPECT_EQ(qwen_image_config_from_json(json, "c").out_channels, 48);
}

TEST(QwenImageConfig, SurvivesARoundTrip) {
  auto json = minimal();
  json["num_layers"] = 3;
  json["out_channels"] = 5;
  const QwenImageConfig config = qwen_image_config_from_json(json, "c");
  EXPECT_EQ(to_json(qwen_image_config_from_json(to_json(config), "c")), to_json(config));
}

TEST(QwenImageConfig, RefusesAnotherClass) {
  auto json = minimal();
  json["_class_name"] = "FluxTransformer2DModel";
  EXPECT_EQ(refusal(json),
            "config.json: required _class_name QwenImageTransformer2DModel, got "
            "FluxTransformer2DModel");
}

TEST(QwenImageConfig, TakesWhatEarlyFilesCarry) {
  auto json = minimal();
  json["pooled_projection_dim"] = 768;
  json["_diffusers_version"] = "0.34.0.dev0";
  EXPECT_EQ(refusal(json), "accepted");
}

TEST(QwenImageConfig, RefusesOptionsOfOtherModelsByName) {
  for (const char* option :
       {"guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"}) {
    auto json = minimal();
    json[option] = false;
    EXPECT_EQ(refusal(json), "accepted");
    json[option] = true;
    EXPECT_NE(refusal(json).find(std::string(option) + " = false"), std::string::npos);
  }
  auto json = minimal();
  json["quantization_config"] = {{"bits", 4}};
  EXPECT_NE(refusal(json).find("\"quantization_config\""), std::string::npos);
}

TEST(QwenImageConfig, RefusesValuesThatCannotBe) {
  auto json = minimal();
  json["num_layers"] = 0;
  EXPECT_NE(refusal(json).find("num_layers"), std::string::npos);
  for (const std::vector<int>& axes : {std::vector{16, 56, 58}, {15, 57, 56}, {64, 64}}) {
    json = minimal();
    json["axes_dims_rope"] = axes;
    EXPECT_NE(refusal(json).find("sum to attention_head_dim = 128"), std::string::npos);
  }
}

}  // namespace
}  // namespace rtlynx
