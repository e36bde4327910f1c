// SPDX-License-Identifier: Apache-2.0
#include "study/block_calibration.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "models/patches.h"
#include "models/recipe.h"
#include "models/text_to_image/flux_denoiser.h"
#include "ops/ops.h"
#include "refusal.h"
#include "study/observer_scope.h"
#include "study/small_transformer.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

class BlockCalibration : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    test::write_transformer(transformer_, GetParam());
    model_ = open_blockwise(transformer_, torch::kFloat32);
    const bool negative = GetParam() == "qwen_image";
    test::write_embeddings(embeddings_file_, model_->features(), 2, negative);
    embeddings_ = read_prompt_embeddings(embeddings_file_, model_->features());
    if (negative) options_.run.true_cfg = 4;
  }

  CalibrateResult calibrated(const BlockCalibrateOptions& options) {
    return calibrate_blocks(*model_, embeddings_, {.shift = 3}, options);
  }

  static void expect_same(const CalibrateResult& a, const CalibrateResult& b) {
    ASSERT_TRUE(a.finished && b.finished);
    ASSERT_EQ(a.layers.size(), b.layers.size());
    for (std::size_t i = 0; i < a.layers.size(); ++i) {
      const CalibratedLayer &one = a.layers[i], &other = b.layers[i];
      EXPECT_EQ(one.name, other.name);
      EXPECT_EQ(one.tokens, other.tokens);
      EXPECT_EQ(one.solution.error, other.solution.error);
      const Compensation24& values = a.compensation.layers.at(one.name).values;
      const Compensation24& same = b.compensation.layers.at(one.name).values;
      EXPECT_TRUE(values.down.equal(same.down)) << one.name;
      EXPECT_TRUE(values.up.equal(same.up)) << one.name;
    }
  }

  test::TempDir temporary_;
  fs::path folder_ = temporary_.path();
  fs::path transformer_ = folder_ / "transformer";
  fs::path embeddings_file_ = folder_ / "embeddings.safetensors";
  std::unique_ptr<BlockwiseTransformer> model_;
  PromptEmbeddings embeddings_;
  BlockCalibrateOptions options_{
      .calibrate = {.run = {},
                    .rows = 1 << 20,
                    .recipe = "all",
                    .transform = {},
                    .solve = {.method = CompensationMethod::low_rank, .norm = true, .rank = 8}},
      .run = {.steps = 3, .height = 64, .width = 96},
      .kept = {}};
};

// The block's sums are those of whole passes with every layer's input observed.
TEST_P(BlockCalibration, SumsWhatTheWholeTransformerReads) {
  const CalibrateResult result = calibrated(options_);
  ASSERT_TRUE(result.finished);
  const std::vector<DrawnStep> passes = draw_steps(*model_, embeddings_, {.shift = 3}, options_.run,
                                                   [](std::int64_t) { return true; });
  EXPECT_EQ(std::ssize(passes), passes_of(embeddings_, options_.run));
  std::map<std::string, InputMoments> moments;
  const InputCallback on_input = [&](const std::string& layer, const torch::Tensor& x) {
    const torch::Tensor rows = x.reshape({-1, x.size(-1)});
    const auto [kept, scale] = ops::sparsify24(rows, /*norm=*/true);
    moments[layer].add(rows, kept * scale.unsqueeze(1));
  };
  {
    const torch::NoGradGuard no_grad;
    const ObserverScope scope(
        model_->module(), [](const std::string&) { return true; }, on_input);
    for (const DrawnStep& pass : passes) {
      model_->velocity(input_of(pass, embeddings_, options_.run));
    }
  }
  std::size_t layers = 0;
  for (const LayerGroup& group : model_->groups()) layers += group.layers.size();
  EXPECT_EQ(result.layers.size(), layers);
  for (const NamedLinear& item : named_linears(model_->module())) {
    const auto found = result.compensation.layers.find(item.name);
    if (found == result.compensation.layers.end()) continue;
    const LayerSolution whole =
        solve_layer(moments.at(item.name), {}, item.linear->weight, options_.calibrate.solve);
    EXPECT_TRUE(found->second.values.down.equal(whole.values.down)) << item.name;
    EXPECT_TRUE(found->second.values.up.equal(whole.values.up)) << item.name;
  }
}

TEST_P(BlockCalibration, MakesEveryLayersErrorSmaller) {
  const CalibrateResult result = calibrated(options_);
  for (const CalibratedLayer& layer : result.layers) {
    EXPECT_GT(layer.tokens, 0);
    EXPECT_LT(layer.solution.error, layer.solution.error_before) << layer.name;
  }
  const fs::path file = folder_ / "compensation.safetensors";
  write_compensation(file, result.compensation);
  const ModelCompensation read = read_compensation(file);
  EXPECT_EQ(read.base_model, model_->class_name());
  apply_compensation(model_->module(), read, "test");
}

TEST_P(BlockCalibration, MemoryDecidesNothingButTheTime) {
  BlockCalibrateOptions small = options_;
  small.calibrate.memory = 1;  // one input at a time
  expect_same(calibrated(options_), calibrated(small));
}

TEST_P(BlockCalibration, GoesOnWhereItWasStopped) {
  const CalibrateResult whole = calibrated(options_);
  BlockCalibrateOptions kept = options_;
  kept.kept = folder_ / "kept";
  std::string stage;
  int stages = 0;
  const auto stop_in_the_last_block = [&](const BlockCalibrateProgress& progress) {
    stages += progress.stage == stage ? 0 : 1;
    stage = progress.stage;
    return stages < 3;  // drawing, the first block, and not the second
  };
  const CalibrateResult stopped =
      calibrate_blocks(*model_, embeddings_, {.shift = 3}, kept, stop_in_the_last_block);
  EXPECT_FALSE(stopped.finished);
  BlockCalibrateOptions other = kept;
  other.run.seed = 8;
  EXPECT_NE(refusal([&] { calibrated(other); }).find("seed = 8"), std::string::npos);
  std::vector<std::string> seen;
  const CalibrateResult rest = calibrate_blocks(*model_, embeddings_, {.shift = 3}, kept,
                                                [&](const BlockCalibrateProgress& progress) {
                                                  seen.push_back(progress.stage);
                                                  return true;
                                                });
  EXPECT_NE(seen.front(), "drawing");
  expect_same(whole, rest);
}

TEST_P(BlockCalibration, RefusesWhatTheModelCannotDo) {
  const auto planned = open_blockwise(transformer_, torch::TensorOptions(torch::kMeta));
  const auto check = [&] { check_block_calibration(*planned, torch::kFloat32, options_); };
  EXPECT_EQ(refusal(check), "accepted");
  options_.calibrate.solve.rank = 4096;
  EXPECT_NE(refusal(check).find("rank: required 1 to"), std::string::npos);
  options_.calibrate.solve.rank = 8;
  options_.run.width = 40;
  EXPECT_NE(refusal([&] { calibrated(options_); }).find("in steps of 16"), std::string::npos);
  options_.run.width = 96;
  options_.run.true_cfg = embeddings_.negative ? 1 : 4;
  EXPECT_NE(refusal([&] { calibrated(options_); }).find("negative prompt"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, BlockCalibration,
                         testing::Values("flux", "qwen_image", "z_image"));

// Against the families' own passes: parts of one file are of one family.
TEST(Blockwise, MakesTheVelocityOfTheWholePass) {
  const torch::NoGradGuard no_grad;
  const test::TempDir folder;
  const torch::Tensor latents = torch::randn({1, 4, 8, 12});
  const auto opened = [&](const std::string& family) {
    test::write_transformer(folder.path() / family, family);
    return open_blockwise(folder.path() / family, torch::kFloat32);
  };
  const auto qwen = opened("qwen_image");
  DenoiserInput input{.latents = latents,
                      .sigma = 0.7,
                      .features = {test::some_features(qwen->features(), 7)},
                      .guidance = 3};
  const auto text = [&] { return input.features.front().at("tokens").unsqueeze(0); };
  const torch::Tensor qwen_whole = load_qwen_image(folder.path() / "qwen_image", torch::kFloat32)
                                       ->forward({.hidden_states = tokens_from_pixels(latents, 2),
                                                  .encoder_hidden_states = text(),
                                                  .text_tokens = {},
                                                  .timestep = torch::tensor({0.7F}),
                                                  .img_shapes = {{.rows = 4, .columns = 6}}});
  EXPECT_TRUE(qwen->velocity(input).allclose(pixels_from_tokens(qwen_whole, 2, 8, 12), 1e-6, 1e-6));

  const auto z_image = opened("z_image");
  input.features = {test::some_features(z_image->features(), 9)};
  const torch::Tensor z_whole = load_z_image(folder.path() / "z_image", torch::kFloat32)
                                    ->forward({.hidden_states = latents,
                                               .encoder_hidden_states = text(),
                                               .caption_tokens = {},
                                               .timestep = torch::tensor({0.3F})});
  EXPECT_TRUE(z_image->velocity(input).allclose(-z_whole, 1e-5, 1e-5));

  const auto flux = opened("flux");
  input.features = {test::some_features(flux->features(), 6)};
  FluxDenoiser denoiser(load_flux(folder.path() / "flux", torch::kFloat32));
  EXPECT_TRUE(flux->velocity(input).allclose(denoiser.velocity(input), 1e-6, 1e-6));
}

TEST(Blockwise, RefusesAnotherTransformer) {
  const test::TempDir folder;
  std::ofstream(folder.path() / "config.json") << R"({"_class_name": "SD3Transformer2DModel"})";
  const std::string message = refusal([&] { open_blockwise(folder.path(), torch::kFloat32); });
  EXPECT_NE(message.find("_class_name to be one of: FluxTransformer2DModel, "), std::string::npos)
      << message;
}

}  // namespace
}  // namespace rtlynx
