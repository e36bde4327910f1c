// SPDX-License-Identifier: Apache-2.0
// Folders of Qwen-Image and Z-Image: what they ask for, and what is wrong with them; of all three,
// what cached features depend on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "io/json.h"
#include "models/text_to_image/decoder_prompts.h"
#include "models/text_to_image/registry.h"
#include "pipeline/text_to_image.h"
#include "pipeline/text_to_image/small_model.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ModelFolder : public testing::Test {
 protected:
  explicit ModelFolder(const char* golden) { test::make_small_model(folder_, golden); }

  std::string message() {
    return refusal([&] { open_text_to_image_model(folder_); });
  }
  ModelFacts facts() { return open_text_to_image_model(folder_)->facts(); }

  nlohmann::json read(const fs::path& file) { return read_json_file(folder_ / file); }
  void write(const fs::path& file, const nlohmann::json& json) {
    std::ofstream(folder_ / file) << json;
  }
  void change(const fs::path& file, const std::string& key, const nlohmann::json& value) {
    nlohmann::json json = read(file);
    json[key] = value;
    write(file, json);
  }

  void expect_every_part_is_needed(const std::vector<const char*>& files) {
    for (const char* file : files) {
      fs::rename(folder_ / file, temporary_ / "away");
      EXPECT_THAT(message(), HasSubstr(fs::path(file).parent_path().string())) << file;
      fs::rename(temporary_ / "away", folder_ / file);
    }
    EXPECT_EQ(message(), "accepted");
  }

  /// `cut`: tokens of "cat ", 600 times, that do not fit.
  void expect_cut(int cut) {
    const auto model = open_text_to_image_model(folder_);
    EXPECT_THAT(model->warnings("a red cat"), IsEmpty());
    std::string prompt;
    for (int i = 0; i < 600; ++i) prompt += "cat ";
    EXPECT_THAT(model->warnings(prompt),
                ElementsAre("the transformer reads 512 tokens of prompt and template; the last " +
                            std::to_string(cut) + " were cut"));
    EXPECT_THROW(model->warnings("\xff"), UsageError);
  }

  /// The key of cached features changes with each of these files, and not with the transformer.
  void expect_encoding_tells(const std::vector<const char*>& files) {
    const auto encoding = [&] { return open_text_to_image_model(folder_)->encoding(); };
    const auto changed = [&](const fs::path& file) {
      fs::copy_file(file, temporary_ / "as it was");
      std::ofstream(file, std::ios::app) << "\n";
      const std::string key = encoding();
      fs::remove(file);
      fs::rename(temporary_ / "as it was", file);
      return key;
    };
    const std::string before = encoding();
    EXPECT_EQ(changed(folder_ / "transformer/config.json"), before);
    for (const char* file : files) EXPECT_NE(changed(folder_ / file), before) << file;
    EXPECT_EQ(encoding(), before);
  }

  test::TempDir temporary_;
  fs::path folder_ = temporary_ / "model";
};

class QwenImageFolder : public ModelFolder {
 protected:
  QwenImageFolder() : ModelFolder("pipeline_qwen_image") {}
};

TEST_F(QwenImageFolder, SaysWhatItAsksFor) {
  EXPECT_EQ(facts().size, 512) << "128 latents of 4 pixels";
  EXPECT_EQ(facts().size_step(), 8);
  EXPECT_EQ(facts().steps, 50);
  EXPECT_EQ(facts().true_cfg, 4) << "once there is a negative prompt";
  EXPECT_FALSE(facts().negative);
  EXPECT_FALSE(facts().distilled_guidance);
  EXPECT_FALSE(facts().fp32_latents);
}

TEST_F(QwenImageFolder, EveryPartHasToBeThere) {
  expect_every_part_is_needed({"tokenizer/vocab.json", "tokenizer/merges.txt",
                               "text_encoder/config.json", "text_encoder/model.safetensors",
                               "transformer/config.json",
                               "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
                               "vae/diffusion_pytorch_model.safetensors"});
}

TEST_F(QwenImageFolder, PartsThatDoNotFitTogetherAreNamed) {
  change("transformer/config.json", "in_channels", 64);
  EXPECT_THAT(message(), HasSubstr("4 for each channel of the VAE's latents, 16, got 64"));
  change("transformer/config.json", "in_channels", 16);
  change("transformer/config.json", "out_channels", 8);
  EXPECT_THAT(message(), HasSubstr("as its in_channels, 16, got 32"));
  change("transformer/config.json", "out_channels", 4);
  change("transformer/config.json", "joint_attention_dim", 24);
  EXPECT_THAT(message(), HasSubstr("text_encoder's hidden_size, 16, got 24"));
  change("transformer/config.json", "joint_attention_dim", 16);
  nlohmann::json text = read("text_encoder/config.json");
  text["text_config"]["vocab_size"] = 100;
  write("text_encoder/config.json", text);
  EXPECT_THAT(message(),
              AllOf(HasSubstr("text_encoder's vocab_size to be at least"), HasSubstr("got 100")));
}

TEST_F(QwenImageFolder, OtherModelsOfTheFamilyAreRefused) {
  change("transformer/config.json", "zero_cond_t", true);
  EXPECT_THAT(message(), HasSubstr("zero_cond_t"));
}

class ZImageFolder : public ModelFolder {
 protected:
  ZImageFolder() : ModelFolder("pipeline_z_image") {}
};

TEST_F(ZImageFolder, TurboIsToldByItsSchedulersShift) {
  const ModelFacts base = facts();
  EXPECT_EQ(base.size, 1024);
  EXPECT_EQ(base.size_step(), 8);
  EXPECT_EQ(base.max_size, 4096) << "512 positions of 2 latents of 4 pixels";
  EXPECT_EQ(base.steps, 50);
  EXPECT_EQ(base.true_cfg, 6);
  EXPECT_EQ(base.negative, "");
  EXPECT_TRUE(base.fp32_latents);
  change("scheduler/scheduler_config.json", "shift", 3.0);
  EXPECT_EQ(facts().steps, 8);
  EXPECT_EQ(facts().true_cfg, 1);
}

TEST_F(ZImageFolder, EveryPartHasToBeThere) {
  expect_every_part_is_needed(
      {"tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/config.json",
       "text_encoder/model.safetensors", "transformer/config.json",
       "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
       "vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"});
}

TEST_F(ZImageFolder, PartsThatDoNotFitTogetherAreNamed) {
  change("transformer/config.json", "in_channels", 16);
  EXPECT_THAT(message(), HasSubstr("the VAE's latent channels, 4, got 16"));
  change("transformer/config.json", "in_channels", 4);
  change("transformer/config.json", "cap_feat_dim", 24);
  EXPECT_THAT(message(), HasSubstr("text_encoder's hidden_size, 16, got 24"));
  change("transformer/config.json", "cap_feat_dim", 16);
  change("transformer/config.json", "axes_lens", {512, 512, 512});
  EXPECT_THAT(message(), HasSubstr("axes_lens[0] to be at least 514"));
  change("transformer/config.json", "axes_lens", {1024, 512, 512});
  change("text_encoder/config.json", "vocab_size", 100);
  EXPECT_THAT(message(), HasSubstr("text_encoder's vocab_size to be at least"));
}

TEST_F(ZImageFolder, APictureHasNoMoreTokensThanPositions) {
  const TextToImagePipeline pipeline(folder_, torch::kFloat32);
  PictureRequest request{.prompts = {"a"}, .seeds = {1}, .width = 4096, .height = 8};
  EXPECT_EQ(pipeline.settings_for(request).width, 4096);
  request.width = 4104;
  EXPECT_THAT(refusal([&] { pipeline.settings_for(request); }), HasSubstr("to 4096 pixels"));
}

class FluxEncoding : public ModelFolder {
 protected:
  FluxEncoding() : ModelFolder("pipeline_flux_dev") {}
};

TEST_F(FluxEncoding, IsOfTokenizersAndTextEncoders) {
  expect_encoding_tells({"tokenizer/vocab.json", "tokenizer/merges.txt",
                         "tokenizer_2/tokenizer_config.json", "text_encoder/config.json",
                         "text_encoder_2/config.json"});
}

constexpr auto kDecoderFiles = {"tokenizer/vocab.json", "tokenizer/merges.txt",
                                "tokenizer/tokenizer_config.json", "text_encoder/config.json"};

TEST_F(QwenImageFolder, TheEncodingIsOfTokenizerAndTextEncoder) {
  expect_encoding_tells(kDecoderFiles);
}
TEST_F(ZImageFolder, TheEncodingIsOfTokenizerAndTextEncoder) {
  expect_encoding_tells(kDecoderFiles);
}

TEST(DecoderPromptsEncoding, IsOfTheTemplate) {
  std::set<std::string> keys;
  const auto add = [&](const PromptTemplate& around, std::int64_t max_tokens) {
    const fs::path tokenizer = test::goldens() / "text_qwen_image" / "tokenizer";
    return keys.insert(DecoderPrompts(tokenizer, around, max_tokens).encoding()).second;
  };
  EXPECT_TRUE(add({"ab", "c", 1}, 22));
  EXPECT_FALSE(add({"ab", "c", 1}, 22));
  EXPECT_TRUE(add({"a", "bc", 1}, 22)) << "the prompt is elsewhere";
  EXPECT_TRUE(add({"ab", "d", 1}, 22));
  EXPECT_TRUE(add({"ab", "c", 2}, 22));
  EXPECT_TRUE(add({"ab", "c", 1}, 2));
  EXPECT_TRUE(add({"ab", "c1", 12}, 2)) << "no digit counts twice";
}

// By transformers' tokenizers 1,326 tokens, of which 34 are dropped, and 1,213.
TEST_F(QwenImageFolder, WhatIsCutOfAPromptIsTold) { expect_cut(1326 - 34 - 512); }
TEST_F(ZImageFolder, WhatIsCutOfAPromptIsTold) { expect_cut(1213 - 512); }

}  // namespace
}  // namespace rtlynx
