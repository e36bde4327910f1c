// SPDX-License-Identifier: Apache-2.0
#include "models/text/text_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "refusal.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// As in the folders of FLUX.1, Qwen-Image and Z-Image, without what is not read.
json clip() {
  return {{"model_type", "clip_text_model"},
          {"hidden_act", "quick_gelu"},
          {"vocab_size", 49408},
          {"hidden_size", 768},
          {"intermediate_size", 3072},
          {"num_hidden_layers", 12},
          {"num_attention_heads", 12},
          {"max_position_embeddings", 77},
          {"eos_token_id", 2},
          {"layer_norm_eps", 1e-5},
          {"attention_dropout", 0.0},
          {"projection_dim", 768}};
}

json t5() {
  return {{"model_type", "t5"},
          {"feed_forward_proj", "gated-gelu"},
          {"relative_attention_num_buckets", 32},
          {"relative_attention_max_distance", 128},
          {"vocab_size", 32128},
          {"d_model", 4096},
          {"d_kv", 64},
          {"d_ff", 10240},
          {"num_layers", 24},
          {"num_heads", 64},
          {"layer_norm_epsilon", 1e-6}};
}

json qwen3() {
  return {{"model_type", "qwen3"},     {"attention_bias", false},
          {"hidden_act", "silu"},      {"vocab_size", 151936},
          {"hidden_size", 2560},       {"intermediate_size", 9728},
          {"num_hidden_layers", 36},   {"num_attention_heads", 32},
          {"num_key_value_heads", 8},  {"head_dim", 128},
          {"rms_norm_eps", 1e-6},      {"rope_theta", 1000000},
          {"rope_scaling", nullptr},   {"use_sliding_window", false},
          {"sliding_window", nullptr}, {"tie_word_embeddings", true}};
}

json qwen2_5_vl() {
  json config = qwen3();
  config.erase("head_dim");
  config.erase("attention_bias");
  config["model_type"] = "qwen2_5_vl";
  config["hidden_size"] = 3584;
  config["num_attention_heads"] = 28;
  config["num_key_value_heads"] = 4;
  config["num_hidden_layers"] = 28;
  config["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {16, 24, 24}}};
  return config;
}

std::string with(json config, const char* key, const json& value,
                 const std::function<void(const json&)>& read) {
  config[key] = value;
  return refusal([&] { read(config); });
}

TEST(TextConfig, ClipIsRead) {
  const ClipTextConfig config = clip_text_config_from_json(clip(), "config.json");
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.eos_token_id, 2);
  EXPECT_TRUE(config.quick_gelu);
  json other = clip();
  other["hidden_act"] = "gelu";
  EXPECT_FALSE(clip_text_config_from_json(other, "config.json").quick_gelu);
}

TEST(TextConfig, WhatWouldChangeClipIsRefusedByName) {
  const auto read = [](const json& config) { clip_text_config_from_json(config, "config.json"); };
  EXPECT_THAT(with(clip(), "model_type", "clip", read),
              HasSubstr("config.json: required model_type \"clip_text_model\", got \"clip\""));
  EXPECT_THAT(with(clip(), "hidden_act", "relu", read), HasSubstr("quick_gelu or gelu"));
  EXPECT_THAT(with(clip(), "num_attention_heads", 7, read), HasSubstr("a multiple of 7, got 768"));
  EXPECT_THAT(with(clip(), "vocab_size", 0, read), HasSubstr("vocab_size"));
}

TEST(TextConfig, T5HasTheBucketsThatAreWrittenOut) {
  EXPECT_EQ(t5_config_from_json(t5(), "config.json").d_ff, 10240);
  const auto read = [](const json& config) { t5_config_from_json(config, "config.json"); };
  EXPECT_THAT(with(t5(), "relative_attention_num_buckets", 64, read), HasSubstr("got 64"));
  EXPECT_THAT(with(t5(), "relative_attention_max_distance", 256, read), HasSubstr("got 256"));
  EXPECT_THAT(with(t5(), "feed_forward_proj", "relu", read), HasSubstr("\"gated-gelu\""));
  EXPECT_THAT(with(t5(), "model_type", "umt5", read), HasSubstr("got \"umt5\""));
}

TEST(TextConfig, Qwen3HasItsOwnHeadSize) {
  const DecoderConfig config = qwen3_config_from_json(qwen3(), "config.json");
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.rope_theta, 1e6);
  const auto read = [](const json& value) { qwen3_config_from_json(value, "config.json"); };
  EXPECT_THAT(with(qwen3(), "attention_bias", true, read), HasSubstr("attention_bias = false"));
  EXPECT_THAT(with(qwen3(), "use_sliding_window", true, read), HasSubstr("use_sliding_window"));
  EXPECT_THAT(with(qwen3(), "rope_scaling", {{"rope_type", "yarn"}}, read), HasSubstr("\"yarn\""));
  EXPECT_THAT(with(qwen3(), "num_key_value_heads", 5, read), HasSubstr("a multiple of 5"));
  EXPECT_THAT(with(qwen3(), "hidden_act", "gelu", read), HasSubstr("hidden_act \"silu\""));
}

TEST(TextConfig, Qwen25VlIsReadFlatAndNested) {
  json flat = qwen2_5_vl();
  json inner = flat;
  inner["model_type"] = "qwen2_5_vl_text";
  inner.erase("rope_theta");
  inner.erase("rope_scaling");
  inner["rope_parameters"] = {{"rope_theta", 1e6}, {"rope_type", "default"}, {"type", "mrope"}};
  const json nested = {{"model_type", "qwen2_5_vl"}, {"text_config", inner}};
  for (const json& form : {flat, nested}) {
    const DecoderConfig config = qwen2_5_vl_config_from_json(form, "config.json");
    EXPECT_EQ(config.head_dim, 128);
    EXPECT_EQ(config.num_key_value_heads, 4);
    EXPECT_EQ(config.rope_theta, 1e6);
    EXPECT_TRUE(config.qkv_bias);
    EXPECT_FALSE(config.qk_norm);
  }
  EXPECT_THAT(refusal([] { qwen2_5_vl_config_from_json(qwen3(), "config.json"); }),
              HasSubstr("required model_type \"qwen2_5_vl\", got \"qwen3\""));
}

TEST(TextConfig, AFileOfAnotherShapeIsRefused) {
  EXPECT_THAT(refusal([] { qwen3_config_from_json(json::array(), "config.json"); }),
              HasSubstr("config.json: required an object, got array"));
}

}  // namespace
}  // namespace rtlynx
