// SPDX-License-Identifier: Apache-2.0
#include "mini/mini_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "io/json.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using test::small_pipeline;

GenerateRequest request(std::vector<std::string> prompts, std::vector<std::uint64_t> seeds) {
  return {.prompts = std::move(prompts),
          .seeds = std::move(seeds),
          .steps = 3,
          .guidance = 3.0,
          .width = 32,
          .height = 16};
}

TEST(Generate, SameRequestSameBits) {
  Pipeline pipeline = small_pipeline();
  const auto a = pipeline.generate(request({"a red circle"}, {5}));
  const auto b = pipeline.generate(request({"a red circle"}, {5}));
  ASSERT_EQ(a.size(), 1U);
  EXPECT_EQ(a[0].width, 32);
  EXPECT_EQ(a[0].height, 16);
  EXPECT_EQ(a[0].rgb, b[0].rgb);
}

TEST(Generate, SeedAndPromptMatter) {
  Pipeline pipeline = small_pipeline();
  const auto base = pipeline.generate_pixels(request({"a red circle"}, {5}));
  EXPECT_FALSE(base.equal(pipeline.generate_pixels(request({"a red circle"}, {6}))));
  EXPECT_FALSE(base.equal(pipeline.generate_pixels(request({"a blue circle"}, {5}))));
}

// Batched kernels may round otherwise, but an image has its own noise wherever it stands.
TEST(Generate, AnImageDoesNotDependOnItsNeighbours) {
  Pipeline pipeline = small_pipeline();
  const auto both = pipeline.generate_pixels(request({"a red circle", "a blue ring"}, {5, 6}));
  const auto alone = pipeline.generate_pixels(request({"a blue ring"}, {6}));
  EXPECT_TRUE(both[1].allclose(alone[0], 1e-4, 1e-4));
}

// What is drawn on the CPU is the same to the bit: a choice of channels would make another picture
// of another rounding.
TEST(Generate, AnImageDoesNotDependOnItsBatch) {
  Pipeline pipeline = small_pipeline();
  apply_recipe(*pipeline.transformer, paper_layers(pipeline.transformer->groups()),
               LinearMode::norm);
  const GenerateRequest all = request({"a red circle", "a blue ring", "the word cat"}, {5, 6, 7});
  const auto together = pipeline.generate(all);
  for (const int batch : {1, 2, 3}) {
    std::vector<Image> images(all.prompts.size());
    pipeline.generate_in_batches(all, batch, [&](std::size_t first, std::vector<Image> drawn) {
      std::move(drawn.begin(), drawn.end(), images.begin() + static_cast<std::ptrdiff_t>(first));
    });
    for (std::size_t i = 0; i < images.size(); ++i) EXPECT_EQ(images[i].rgb, together[i].rgb) << i;
  }
  EXPECT_EQ(pipeline.generate(request({"the word cat"}, {7}))[0].rgb, together[2].rgb);
}

// A model with guidance_embeds, all else as in small_pipeline().
Pipeline distilled_pipeline() {
  Pipeline pipeline = small_pipeline();
  FluxConfig config = pipeline.transformer->config();
  config.guidance_embeds = true;
  FluxTransformer distilled(config);
  const torch::NoGradGuard no_grad;
  torch::manual_seed(4);
  const auto known = pipeline.transformer->named_parameters();
  for (auto& item : distilled->named_parameters()) {
    const torch::Tensor* value = known.find(item.key());
    value != nullptr ? item.value().copy_(*value) : item.value().normal_(0, 0.1);
  }
  pipeline.transformer = distilled;
  return pipeline;
}

TEST(Generate, GuidanceIsAnInputOfADistilledModel) {
  Pipeline pipeline = distilled_pipeline();
  auto weak = request({"a red circle"}, {5});
  weak.guidance = 1.0;
  auto strong = weak;
  strong.guidance = 4.0;
  int steps = 0;
  const auto drawn = pipeline.generate_pixels(
      strong, {}, [&](int, const FluxInputs& inputs, const torch::Tensor& velocity) {
        ++steps;
        EXPECT_EQ(velocity.size(0), 1);  // one branch
        EXPECT_TRUE(inputs.guidance.equal(torch::full({1}, 4.0F)));
      });
  EXPECT_EQ(steps, 3);
  EXPECT_FALSE(drawn.equal(pipeline.generate_pixels(weak)));
}

TEST(Generate, NamesTheStepOfWhatIsNotFinite) {
  Pipeline pipeline = small_pipeline();
  const torch::NoGradGuard no_grad;
  for (auto& [name, linear] : named_linears(*pipeline.transformer)) {
    if (name == "proj_out") linear->weight.fill_(3e38F);
  }
  EXPECT_THAT(refusal([&] { pipeline.generate(request({"a red circle"}, {5})); }),
              testing::HasSubstr("lynx-mini, velocity of step 1 of 3: required finite values"));
  pipeline = small_pipeline();
  pipeline.text_encoder->token_embedding.fill_(std::numeric_limits<float>::infinity());
  EXPECT_THAT(refusal([&] { pipeline.generate(request({"a red circle"}, {5})); }),
              testing::HasSubstr("embedding of the prompts: required finite values"));
  auto endless = request({"a red circle"}, {5});
  endless.guidance = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(pipeline.generate(endless), UsageError);
}

// With guidance 1 the empty prompt has no weight, so leaving it out changes nothing.
TEST(Generate, GuidanceOfOneIsThePromptAlone) {
  Pipeline pipeline = small_pipeline();
  auto unguided = request({"a red circle"}, {5});
  unguided.guidance = 1.0;
  auto nearly = unguided;
  nearly.guidance = 1.0 + 1e-9;
  EXPECT_TRUE(
      pipeline.generate_pixels(unguided).allclose(pipeline.generate_pixels(nearly), 1e-4, 1e-4));
}

TEST(Generate, ReportsEveryStep) {
  Pipeline pipeline = small_pipeline();
  std::vector<int> finished;
  pipeline.generate(request({"a red circle"}, {5}), [&](int done, int steps) {
    EXPECT_EQ(steps, 3);
    finished.push_back(done);
  });
  EXPECT_EQ(finished, (std::vector<int>{0, 1, 2, 3}));
}

TEST(Generate, ShowsWhatTheTransformerReadAndSaid) {
  Pipeline pipeline = small_pipeline();
  int steps = 0;
  pipeline.generate_pixels(
      request({"a red circle", "a blue ring"}, {5, 6}), {},
      [&](int step, const FluxInputs& inputs, const torch::Tensor& velocity) {
        EXPECT_EQ(step, steps++);
        const torch::InferenceMode inference;
        EXPECT_EQ(velocity.sizes(), (torch::IntArrayRef{4, 8 * 4, 48}));
        EXPECT_TRUE(pipeline.transformer(inputs).equal(velocity));
        EXPECT_TRUE(inputs.hidden_states[0].equal(inputs.hidden_states[2]));
        EXPECT_FALSE(velocity[0].equal(velocity[2]));  // without and with its prompt
      });
  EXPECT_EQ(steps, 3);
}

TEST(Generate, RefusesWhatCannotBe) {
  Pipeline pipeline = small_pipeline();
  auto wrong = request({"a red circle"}, {5});
  wrong.width = 30;
  EXPECT_THROW(pipeline.generate(wrong), UsageError);
  wrong.width = 516;
  EXPECT_THROW(pipeline.generate(wrong), UsageError);
  EXPECT_THROW(pipeline.generate(request({}, {})), UsageError);
  EXPECT_THROW(pipeline.generate(request({"a red circle"}, {1, 2})), UsageError);
  EXPECT_THROW(pipeline.generate(request({"a red cirkle"}, {1})), UsageError);
  wrong = request({"a red circle"}, {5});
  wrong.steps = 0;
  EXPECT_THROW(pipeline.generate(wrong), UsageError);
}

class PipelineFolder : public testing::Test {
 protected:
  void SetUp() override { save_pipeline(small_pipeline(), folder_, /*max_shard_bytes=*/100'000); }

  std::string refusal() {
    try {
      load_pipeline(folder_, torch::kFloat32);
    } catch (const Error& error) {
      return error.what();
    }
    return "loaded";
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_.path();
};

TEST_F(PipelineFolder, ComesBackWithTheSamePictures) {
  Pipeline first = load_pipeline(folder_, torch::kFloat32);
  const auto again = folder_ / "again";
  save_pipeline(first, again, std::size_t{1} << 30);
  Pipeline second = load_pipeline(again, torch::kFloat32);
  EXPECT_EQ(first.generate(request({"a red circle"}, {5}))[0].rgb,
            second.generate(request({"a red circle"}, {5}))[0].rgb);
  EXPECT_EQ(second.scheduler.shift, 2.0);
  EXPECT_EQ(second.name, "again");
}

TEST_F(PipelineFolder, TellsWhatLiesBehindTheItems) {
  EXPECT_FALSE(load_pipeline(folder_, torch::kFloat32).leaves);
  Pipeline pipeline = small_pipeline();
  pipeline.leaves = true;
  save_pipeline(pipeline, folder_, /*max_shard_bytes=*/100'000);
  EXPECT_TRUE(load_pipeline(folder_, torch::kFloat32).leaves);
  nlohmann::json index = read_json_file(folder_ / "model_index.json");
  index["scene_background"] = "fog";
  std::ofstream(folder_ / "model_index.json") << index;
  EXPECT_THAT(refusal(), testing::EndsWith("\"dead leaves\" or none, got fog"));
}

TEST_F(PipelineFolder, IsNotSavedOverAnotherForm) {
  const auto before = std::filesystem::last_write_time(folder_ / "model_index.json");
  EXPECT_THAT(
      rtlynx::refusal([&] { save_pipeline(small_pipeline(), folder_, std::size_t{1} << 30); }),
      testing::HasSubstr("a checkpoint of the other form"));
  EXPECT_EQ(std::filesystem::last_write_time(folder_ / "model_index.json"), before);
  EXPECT_EQ(refusal(), "loaded");
}

TEST_F(PipelineFolder, IsNotSavedWithWeightsThatAreNotFinite) {
  Pipeline broken = small_pipeline();
  {
    const torch::NoGradGuard no_grad;
    broken.text_encoder->token_embedding.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  EXPECT_THAT(rtlynx::refusal([&] { save_pipeline(broken, folder_, /*max_shard_bytes=*/100'000); }),
              testing::HasSubstr("tensor token_embedding: required finite values"));
  EXPECT_EQ(refusal(), "loaded");
}

TEST_F(PipelineFolder, StagedItChangesNothing) {
  const auto empty = folder_ / "new";
  stage_pipeline(small_pipeline(), empty, std::size_t{1} << 30);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(empty)) {
    EXPECT_TRUE(entry.is_directory()) << entry.path();
  }
}

TEST_F(PipelineFolder, AMissingPartIsNamed) {
  std::filesystem::remove(folder_ / "scheduler" / "scheduler_config.json");
  EXPECT_NE(refusal().find("scheduler_config.json"), std::string::npos) << refusal();
}

TEST_F(PipelineFolder, AnotherPipelineIsNamed) {
  std::ofstream(folder_ / "model_index.json") << R"({"_class_name": "QwenImagePipeline"})";
  EXPECT_THAT(refusal(), testing::HasSubstr("got QwenImagePipeline: rtlynx generate and"));
  std::ofstream(folder_ / "model_index.json") << R"({"_class_name": "OtherPipeline"})";
  EXPECT_THAT(refusal(), testing::EndsWith("got OtherPipeline"));
}

TEST_F(PipelineFolder, WhatIsNoModelsFolderIsNamed) {
  const auto load = [](const std::filesystem::path& folder) {
    return rtlynx::refusal([&] { load_pipeline(folder, torch::kFloat32); });
  };
  EXPECT_THAT(load(folder_ / "transformer"), testing::HasSubstr("give the folder above it"));
  EXPECT_THAT(load(folder_ / "model_index.json"), testing::HasSubstr("got a single file"));
}

TEST_F(PipelineFolder, ATruncatedShardIsNamed) {
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "transformer")) {
    if (file.path().filename().string().find("-00002-of-") == std::string::npos) continue;
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  }
  EXPECT_NE(refusal().find("-00002-of-"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace rtlynx
