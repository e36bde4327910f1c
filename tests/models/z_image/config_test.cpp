// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

nlohmann::json minimal() { return {{"_class_name", "ZImageTransformer2DModel"}}; }

nlohmann::json with(const char* key, const nlohmann::json& value) {
  nlohmann::json json = minimal();
  json[key] = value;
  return json;
}

std::string refusal(const nlohmann::json& json) {
  try {
    z_image_config_from_json(json, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ZImageConfig, DefaultsAreDiffusers) {
  const ZImageConfig config = z_image_config_from_json(minimal(), "config.json");
  EXPECT_EQ(config.n_layers, 30);
  EXPECT_EQ(config.n_refiner_layers, 2);
  EXPECT_EQ(config.head_dim(), 128);
  EXPECT_EQ(config.mlp_dim(), 10240);
  EXPECT_EQ(config.token_channels(), 64);
  EXPECT_EQ(config.time_dim(), 256);
  EXPECT_EQ(config.axes_dims, (std::vector<std::int64_t>{32, 48, 48}));
}

TEST(ZImageConfig, RoundsTheMlpDown) {
  ZImageConfig config;
  config.dim = 32;
  EXPECT_EQ(config.mlp_dim(), 85);
}

TEST(ZImageConfig, NullKeepsTheDefault) {
  auto json = minimal();
  const auto defaults = to_json(ZImageConfig());
  for (const auto& [key, value] : defaults.items()) {
    if (key != "_class_name") json[key] = nullptr;
  }
  EXPECT_EQ(to_json(z_image_config_from_json(json, "c")), to_json(ZImageConfig()));
}

TEST(ZImageConfig, SurvivesARoundTrip) {
  auto json = with("n_layers", 3);
  json["all_patch_size"] = {4};
  json["norm_eps"] = 1e-4;
  const ZImageConfig config = z_image_config_from_json(json, "c");
  EXPECT_EQ(config.patch_size, 4);
  EXPECT_EQ(to_json(z_image_config_from_json(to_json(config), "c")), to_json(config));
}

TEST(ZImageConfig, RefusesByNameWhatItDoesNotHave) {
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, nlohmann::json>>{
           {"siglip_feat_dim", 1152},
           {"n_kv_heads", 6},
           {"qk_norm", false},
           {"all_patch_size", {2, 4}},
           {"all_f_patch_size", {2}},
           {"quantization_config", {{"bits", 4}}}}) {
    const std::string message = refusal(with(key, value));
    EXPECT_NE(message.find(key), std::string::npos) << message;
    EXPECT_NE(message.find("not supported"), std::string::npos) << message;
  }
  EXPECT_EQ(refusal(with("_diffusers_version", "0.42.1")), "accepted");
}

TEST(ZImageConfig, RefusesAnotherClass) {
  EXPECT_EQ(refusal(with("_class_name", "FluxTransformer2DModel")),
            "config.json: required _class_name ZImageTransformer2DModel, got "
            "FluxTransformer2DModel");
}

TEST(ZImageConfig, RefusesValuesThatCannotBe) {
  EXPECT_NE(refusal(with("n_layers", -1)).find("n_layers"), std::string::npos);
  EXPECT_NE(refusal(with("norm_eps", "small")).find("norm_eps"), std::string::npos);
  EXPECT_NE(refusal(with("axes_dims", {32, 48, 50})).find("sum to dim / n_heads = 128"),
            std::string::npos);
  EXPECT_NE(refusal(with("axes_dims", {31, 49, 48})).find("even"), std::string::npos);
  EXPECT_NE(refusal(with("axes_lens", {1, 2})).find("axes_lens"), std::string::npos);
  EXPECT_NE(refusal(with("dim", 3841)).find("dim"), std::string::npos);
}

}  // namespace
}  // namespace rtlynx
