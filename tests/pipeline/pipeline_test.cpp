// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pipeline.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "models/recipe.h"
#include "pipeline/small_pipeline.h"
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

TEST(Generate, SparseModesDrawSomethingElse) {
  Pipeline pipeline = small_pipeline();
  const auto dense = pipeline.generate_pixels(request({"a red circle"}, {5}));
  apply_paper_flux_recipe(*pipeline.transformer, LinearMode::naive);
  const auto naive = pipeline.generate_pixels(request({"a red circle"}, {5}));
  apply_paper_flux_recipe(*pipeline.transformer, LinearMode::norm);
  const auto norm = pipeline.generate_pixels(request({"a red circle"}, {5}));
  EXPECT_FALSE(dense.equal(naive));
  EXPECT_FALSE(naive.equal(norm));
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

TEST_F(PipelineFolder, AMissingPartIsNamed) {
  std::filesystem::remove(folder_ / "scheduler" / "scheduler_config.json");
  EXPECT_NE(refusal().find("scheduler_config.json"), std::string::npos) << refusal();
}

TEST_F(PipelineFolder, AnotherPipelineIsNamed) {
  std::ofstream(folder_ / "model_index.json") << R"({"_class_name": "QwenImagePipeline"})";
  EXPECT_NE(refusal().find("got QwenImagePipeline"), std::string::npos) << refusal();
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
