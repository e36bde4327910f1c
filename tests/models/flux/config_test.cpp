// SPDX-License-Identifier: Apache-2.0
#include "models/flux/config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

nlohmann::json minimal() { return {{"_class_name", "FluxTransformer2DModel"}}; }

std::string refusal(const nlohmann::json& json) {
  try {
    flux_config_from_json(json, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(FluxConfig, DefaultsAreDiffusers) {
  const FluxConfig config = flux_config_from_json(minimal(), "config.json");
  EXPECT_EQ(config.num_layers, 19);
  EXPECT_EQ(config.num_single_layers, 38);
  EXPECT_EQ(config.hidden_dim(), 3072);
  EXPECT_FALSE(config.guidance_embeds);
  EXPECT_EQ(config.axes_dims_rope, (std::vector<std::int64_t>{16, 56, 56}));
}

TEST(FluxConfig, OutChannelsFollowInChannels) {
  auto json = minimal();
  json["in_channels"] = 48;
  json["out_channels"] = nullptr;
  EXPECT_EQ(flux_config_from_json(json, "c").out_channels, 48);
  json["out_channels"] = 12;
  EXPECT_EQ(flux_config_from_json(json, "c").out_channels, 12);
}

TEST(FluxConfig, NullKeepsTheDefault) {
  auto json = minimal();
  const auto defaults = to_json(FluxConfig());
  for (const auto& [key, value] : defaults.items()) {
    if (key != "_class_name") json[key] = nullptr;
  }
  json["an_option_of_tomorrow"] = nullptr;
  EXPECT_EQ(to_json(flux_config_from_json(json, "c")), to_json(FluxConfig()));
}

TEST(FluxConfig, SurvivesARoundTrip) {
  auto json = minimal();
  json["num_layers"] = 3;
  json["guidance_embeds"] = true;
  const FluxConfig config = flux_config_from_json(json, "c");
  EXPECT_EQ(to_json(flux_config_from_json(to_json(config), "c")), to_json(config));
}

TEST(FluxConfig, RefusesAnotherClass) {
  auto json = minimal();
  json["_class_name"] = "QwenImageTransformer2DModel";
  EXPECT_EQ(refusal(json),
            "config.json: required _class_name FluxTransformer2DModel, got "
            "QwenImageTransformer2DModel");
}

TEST(FluxConfig, RefusesUnknownOptionsByName) {
  auto json = minimal();
  json["quantization_config"] = {{"bits", 4}};
  EXPECT_NE(refusal(json).find("\"quantization_config\""), std::string::npos);
  json = minimal();
  json["_diffusers_version"] = "0.42.1";
  EXPECT_EQ(refusal(json), "accepted");
}

TEST(FluxConfig, RefusesValuesThatCannotBe) {
  auto json = minimal();
  json["num_layers"] = -1;
  EXPECT_NE(refusal(json).find("num_layers"), std::string::npos);
  json = minimal();
  json["guidance_embeds"] = "yes";
  EXPECT_NE(refusal(json).find("guidance_embeds"), std::string::npos);
  json = minimal();
  json["axes_dims_rope"] = {16, 56, 58};
  EXPECT_NE(refusal(json).find("sum to attention_head_dim = 128"), std::string::npos);
  json["axes_dims_rope"] = {15, 57, 56};
  EXPECT_NE(refusal(json).find("even"), std::string::npos);
}

}  // namespace
}  // namespace rtlynx
