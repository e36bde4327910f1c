// SPDX-License-Identifier: Apache-2.0
// What is wrong with a folder is said before anything is computed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "io/json.h"
#include "models/text_to_image/registry.h"
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

class FluxFolder : public testing::Test {
 protected:
  FluxFolder() { test::make_small_model(folder_, "pipeline_flux_dev"); }

  std::string message() {
    return refusal([&] { open_text_to_image_model(folder_); });
  }

  void change(const fs::path& file, const std::string& key, const nlohmann::json& value) {
    nlohmann::json json = read_json_file(folder_ / file);
    json[key] = value;
    std::ofstream(folder_ / file) << json;
  }

  test::TempDir temporary_;
  fs::path folder_ = temporary_ / "model";
};

TEST_F(FluxFolder, DevAndSchnellDifferInWhatTheyAskFor) {
  const ModelFacts dev = open_text_to_image_model(folder_)->facts();
  EXPECT_TRUE(dev.distilled_guidance);
  EXPECT_EQ(dev.guidance, 3.5);
  EXPECT_EQ(dev.steps, 28);
  EXPECT_EQ(dev.latent_channels, 4);
  EXPECT_EQ(dev.size_step(), 8);
  test::make_small_model(temporary_ / "schnell", "pipeline_flux_schnell");
  const ModelFacts schnell = open_text_to_image_model(temporary_ / "schnell")->facts();
  EXPECT_FALSE(schnell.distilled_guidance);
  EXPECT_EQ(schnell.steps, 4);
}

TEST_F(FluxFolder, AnotherPipelineClassIsNamed) {
  change("model_index.json", "_class_name", "StableDiffusionPipeline");
  EXPECT_THAT(message(), AllOf(HasSubstr("model_index.json"), HasSubstr("FluxPipeline"),
                               HasSubstr("StableDiffusionPipeline")));
}

TEST_F(FluxFolder, EveryPartHasToBeThere) {
  for (const char* part :
       {"tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model",
        "text_encoder/config.json", "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors", "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors"}) {
    fs::rename(folder_ / part, temporary_ / "away");
    EXPECT_THAT(message(), HasSubstr(fs::path(part).parent_path().string())) << part;
    fs::rename(temporary_ / "away", folder_ / part);
  }
  EXPECT_EQ(message(), "accepted");
}

TEST_F(FluxFolder, HalfAFileIsSeenBeforeAnythingIsLoaded) {
  for (const char* part : {"text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
                           "transformer/diffusion_pytorch_model.safetensors",
                           "vae/diffusion_pytorch_model.safetensors"}) {
    fs::copy(folder_ / part, temporary_ / "whole");
    fs::resize_file(folder_ / part, fs::file_size(folder_ / part) / 2);
    EXPECT_THAT(message(), HasSubstr(part)) << part;
    fs::rename(temporary_ / "whole", folder_ / part);
  }
}

TEST_F(FluxFolder, PartsThatDoNotFitTogetherAreNamed) {
  change("transformer/config.json", "in_channels", 64);
  EXPECT_THAT(message(), HasSubstr("required transformer's in_channels, 4 for each channel of the "
                                   "VAE's latents, 16, got 64"));
  change("transformer/config.json", "in_channels", 16);
  change("transformer/config.json", "joint_attention_dim", 24);
  EXPECT_THAT(message(), HasSubstr("text_encoder_2's d_model, 16, got 24"));
  change("transformer/config.json", "joint_attention_dim", 16);
  change("text_encoder/config.json", "vocab_size", 100);
  EXPECT_THAT(message(), HasSubstr("text_encoder's vocab_size to be at least"));
}

TEST_F(FluxFolder, PromptsThatAreTooLongAreToldWithTheLimit) {
  const auto model = open_text_to_image_model(folder_);
  EXPECT_THAT(model->warnings("a red cat"), IsEmpty());
  std::string words;
  for (int i = 0; i < 80; ++i) words += "cat ";
  EXPECT_THAT(model->warnings(words),
              ElementsAre("CLIP reads 75 tokens; the last 5 of the prompt were cut"));
  for (int i = 0; i < 3; ++i) words += words;
  EXPECT_THAT(model->warnings(words), ElementsAre(HasSubstr("CLIP"), HasSubstr("T5 reads 511")));
  EXPECT_THROW(model->warnings("\xff"), UsageError);
}

}  // namespace
}  // namespace rtlynx
