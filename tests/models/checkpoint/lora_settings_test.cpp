// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/lora_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <span>

#include "io/safetensors.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using testing::HasSubstr;

class LoraSettingsTest : public testing::Test {
 protected:
  /// The settings of a file with one tensor of this name.
  std::optional<LoraSettings> settings(const SafetensorsMetadata& metadata,
                                       const std::string& tensor = "base_model.model.a.alpha") {
    const float value = 1;
    const NamedTensor entry{.name = tensor, .bytes = std::as_bytes(std::span(&value, 1))};
    write_safetensors(temporary_ / "lora.safetensors", std::span(&entry, 1), metadata);
    return LoraSettings::of(SafetensorsFile::open(temporary_ / "lora.safetensors"));
  }
  std::optional<LoraSettings> from_metadata(const std::string& json) {
    return settings({{"lora_adapter_metadata", json}});
  }

  void write_config(const std::string& json) {
    std::ofstream(temporary_ / "adapter_config.json") << json;
  }
  std::string refusal_of(const std::string& config) {
    write_config(config);
    return refusal([&] { settings({}); });
  }

  test::TempDir temporary_;
};

// The settings and, in the test's expectations, `scaling` of each layer as PEFT has them.
constexpr const char* kPeft = R"({
  "alpha_pattern": {"^attn.to_v": 100, "out.0": 7, "transformer_blocks.0.attn.to_q": 6,
                    "transformer_blocks\\.[0-9]+\\.attn\\.to_k": 5},
  "bias": "none", "fan_in_fan_out": false, "init_lora_weights": true, "lora_alpha": 8,
  "modules_to_save": null, "peft_type": "LORA", "r": 4,
  "rank_pattern": {"^transformer_blocks.1.attn.to_q": 3, "to_k": 2},
  "use_dora": false, "use_rslora": false})";

TEST_F(LoraSettingsTest, PeftsOwnFileHasThemBesideIt) {
  EXPECT_FALSE(settings({}));
  write_config(kPeft);
  const auto peft = settings({});
  ASSERT_TRUE(peft);
  const std::string block = "base_model.model.transformer_blocks.";
  EXPECT_DOUBLE_EQ(peft->scale(block + "0.attn.to_q", 4), 6.0 / 4);
  EXPECT_DOUBLE_EQ(peft->scale(block + "0.attn.to_k", 2), 5.0 / 2);
  EXPECT_DOUBLE_EQ(peft->scale(block + "0.attn.to_v", 4), 8.0 / 4) << "^ is the name's beginning";
  EXPECT_DOUBLE_EQ(peft->scale(block + "0.attn.to_out.0", 4), 8.0 / 4) << "not half a word";
  EXPECT_DOUBLE_EQ(peft->scale(block + "1.attn.to_q", 3), 8.0 / 3);
  EXPECT_THAT(refusal([&] { peft->scale(block + "0.attn.to_q", 3); }),
              HasSubstr("adapter_config.json: required transformer_blocks.0.attn.to_q of rank 4, "
                        "got 3"));
}

TEST_F(LoraSettingsTest, AFileWithOtherNamesHasNoneBesideIt) {
  write_config(kPeft);
  EXPECT_FALSE(settings({}, "transformer.a.alpha"));
}

TEST_F(LoraSettingsTest, DiffusersHasThemInTheFile) {
  write_config(R"({"lora_alpha": 1, "r": 1})");
  const auto pipeline = from_metadata(
      R"({"transformer.lora_alpha": 6, "transformer.r": 3, "text_encoder.lora_alpha": 9,
          "transformer.alpha_pattern": {"^a.b": 12}})");
  ASSERT_TRUE(pipeline);
  EXPECT_DOUBLE_EQ(pipeline->scale("transformer.a.c", 3), 2);
  EXPECT_DOUBLE_EQ(pipeline->scale("transformer.a.b", 3), 4);
  const auto transformer = from_metadata(R"({"lora_alpha": 6, "r": 3})");
  ASSERT_TRUE(transformer);
  EXPECT_DOUBLE_EQ(transformer->scale("a.b", 3), 2);
  EXPECT_FALSE(from_metadata(R"({"text_encoder.lora_alpha": 9, "text_encoder.r": 3})"));
}

TEST_F(LoraSettingsTest, RankStabilizedIsByTheRoot) {
  write_config(R"({"lora_alpha": 6, "r": 9, "use_rslora": true})");
  EXPECT_DOUBLE_EQ(settings({})->scale("base_model.model.a", 9), 2);
}

TEST_F(LoraSettingsTest, WhatIsMoreThanAProductOrOfOtherWeightsIsRefusedByName) {
  const std::string good = R"("lora_alpha": 8, "r": 4)";
  EXPECT_THAT(refusal_of("{" + good + R"(, "use_dora": true})"), HasSubstr("use_dora = false"));
  EXPECT_THAT(refusal_of("{" + good + R"(, "peft_type": "LOHA"})"), HasSubstr("got LOHA"));
  EXPECT_THAT(refusal_of("{" + good + R"(, "init_lora_weights": "pissa_niter_4"})"),
              HasSubstr("got pissa_niter_4"));
  EXPECT_EQ(refusal_of("{" + good + R"(, "init_lora_weights": "gaussian"})"), "accepted");
}

TEST_F(LoraSettingsTest, WhatCannotBeReadIsNamed) {
  EXPECT_THAT(refusal_of(R"({"r": 4})"), HasSubstr("adapter_config.json, key \"lora_alpha\""));
  EXPECT_THAT(refusal_of(R"({"lora_alpha": 4})"), HasSubstr("key \"r\""));
  EXPECT_THAT(refusal_of("["), HasSubstr("adapter_config.json"));
  EXPECT_THAT(refusal_of(R"({"lora_alpha": 8, "r": 4, "alpha_pattern": {"(": 1}})"),
              HasSubstr("adapter_config.json, alpha_pattern: required a regular expression"));
  EXPECT_THAT(refusal_of(R"({"lora_alpha": 8, "r": 4, "rank_pattern": [1]})"),
              HasSubstr("rank_pattern: required an object, got [1]"));
  EXPECT_THAT(refusal([&] { from_metadata("[]"); }),
              HasSubstr("lora_adapter_metadata: required an object"));
}

}  // namespace
}  // namespace rtlynx
