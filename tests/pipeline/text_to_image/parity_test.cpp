// SPDX-License-Identifier: Apache-2.0
// Against diffusers' pipelines from the same folders (tools/make_pipeline_goldens.py).
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>

#include "io/json.h"
#include "io/png.h"
#include "io/safetensors.h"
#include "models/recipe.h"
#include "models/tensor_bytes.h"
#include "pipeline/pixels.h"
#include "pipeline/text_to_image.h"
#include "pipeline/text_to_image/small_model.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

void set_grouped_to(LinearMode mode, torch::nn::Module& transformer,
                    const std::vector<LayerGroup>& groups) {
  std::set<std::string> names;
  for (const LayerGroup& group : groups) {
    for (const GroupLayer& layer : group.layers) names.insert(layer.name);
  }
  for (NamedLinear& item : named_linears(transformer)) {
    if (names.contains(item.name)) item.linear->set_mode(mode);
  }
}

class PipelineParity : public testing::TestWithParam<const char*> {
 protected:
  PipelineParity() {
    test::make_small_model(folder_, GetParam());
    const nlohmann::json json = read_json_file(test::goldens() / "pipeline_request.json");
    request_.prompts = json["prompts"].get<std::vector<std::string>>();
    request_.seeds = json["seeds"].get<std::vector<std::uint64_t>>();
    request_.steps = json["steps"].get<int>();
    request_.width = json["width"].get<int>();
    request_.height = json["height"].get<int>();
    guided_ = request_;
    guided_.negative = json["negative"].get<std::string>();
    guided_.true_cfg = json["true_cfg"].get<double>();
    bounded_ = guided_;
    bounded_.cfg_truncation = json["cfg_truncation"].get<double>();
    bounded_.cfg_normalization = json["cfg_normalization"].get<double>();
    // Z-Image is guided unless that is switched off.
    request_.true_cfg = 1;
    strength_ = json["strength"].get<double>();
  }

  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }

  /// `mode`: of every Linear of the transformer's groups.
  torch::Tensor latents(TextToImagePipeline& pipeline, const torch::Tensor& noise,
                        LinearMode mode = LinearMode::dense) {
    set_grouped_to(mode, pipeline.prepare(request_), pipeline.model().groups());
    return pipeline.denoise(request_.prompts, pipeline.settings_for(request_), noise, [](int) {});
  }

  /// All pictures [B, H, W, 3], drawn with `batch` at a time.
  torch::Tensor pictures(TextToImagePipeline& pipeline, int batch) {
    request_.batch = batch;
    std::vector<Image> images;
    pipeline.draw(request_, {.on_images = [&](std::size_t first, std::vector<Image> drawn) {
                    EXPECT_EQ(first, images.size());
                    std::move(drawn.begin(), drawn.end(), std::back_inserter(images));
                  }});
    return pixels_from_images(images).permute({0, 2, 3, 1}).add(1).mul(127.5).round();
  }

  void expect_within_one(const torch::Tensor& bytes, const std::string& name) {
    const torch::Tensor exact = golden(name).to(torch::kFloat32);
    ASSERT_EQ(bytes.sizes(), exact.sizes());
    EXPECT_LE((bytes - exact).abs().max().item<float>(), 1) << name;
    EXPECT_GT(exact.std().item<float>(), 10) << "the golden shows nothing";
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_ / "model";
  SafetensorsFile io_ = SafetensorsFile::open(test::goldens() / GetParam() / "io.safetensors");
  PictureRequest request_, guided_, bounded_;
  double strength_ = 0;
};

constexpr std::array<const char*, 4> kGoldens = {"pipeline_flux_dev", "pipeline_flux_schnell",
                                                 "pipeline_qwen_image", "pipeline_z_image"};

TEST_P(PipelineParity, TheSameNoiseBecomesTheSameLatents) {
  TextToImagePipeline pipeline(folder_, torch::kFloat32);
  const torch::Tensor exact = golden("latents");
  const torch::Tensor drawn = latents(pipeline, golden("noise"));
  ASSERT_EQ(drawn.sizes(), exact.sizes());
  EXPECT_LE((drawn - exact).abs().max().item<float>(), 1e-4);
}

TEST_P(PipelineParity, TheSameSeedsBecomeTheSamePictures) {
  TextToImagePipeline pipeline(folder_, torch::kFloat32);
  EXPECT_TRUE(torch::equal(pipeline.draw_noise(request_.seeds, pipeline.settings_for(request_)),
                           golden("noise")));
  expect_within_one(pictures(pipeline, 2), "pixels");
  expect_within_one(pictures(pipeline, 1), "pixels");
}

TEST_P(PipelineParity, AnImageIsChangedAsInDiffusers) {
  request_.prompts.resize(1);
  request_.seeds.resize(1);
  request_.image = read_png(test::goldens() / "pipeline_image.png");
  request_.strength = strength_;
  TextToImagePipeline pipeline(folder_, torch::kFloat32);
  expect_within_one(pictures(pipeline, 1), "image.pixels");
}

// Not element by element: bf16 has 8 bits.
TEST_P(PipelineParity, Bf16IsAsFarFromFp32AsDiffusers) {
  TextToImagePipeline pipeline(folder_, torch::kBFloat16);
  // Not the golden's: torch 2.11 on another CPU draws other bf16 numbers from the same seed.
  const torch::Tensor noise = pipeline.draw_noise(request_.seeds, pipeline.settings_for(request_));
  auto generator = at::detail::createCPUGenerator(request_.seeds.front());
  const auto shape = noise.narrow(0, 0, 1).sizes().vec();
  const auto type = golden("noise.bf16").scalar_type();
  EXPECT_TRUE(torch::equal(noise.narrow(0, 0, 1), torch::randn(shape, generator, type)));
  const torch::Tensor drawn = latents(pipeline, golden("noise.bf16"));
  EXPECT_EQ(drawn.scalar_type(), type);
  const double theirs = relative_error(golden("latents.bf16"), golden("latents"));
  EXPECT_GT(theirs, 1e-3) << "the golden is not of bf16";
  EXPECT_LE(relative_error(drawn, golden("latents")), 2 * theirs);
}

INSTANTIATE_TEST_SUITE_P(Goldens, PipelineParity, testing::ValuesIn(kGoldens),
                         [](const auto& test) { return std::string(test.param); });

/// The fused path, captured.
class PipelineOnGpu : public PipelineParity {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  }
  static torch::TensorOptions bf16() {
    return torch::TensorOptions().dtype(torch::kBFloat16).device(torch::kCUDA);
  }
};

TEST_P(PipelineOnGpu, IsAsFarFromFp32AsDiffusers) {
  TextToImagePipeline pipeline(folder_, bf16());
  const torch::Tensor drawn = latents(pipeline, golden("noise.bf16"));
  const double theirs = relative_error(golden("latents.bf16"), golden("latents"));
  EXPECT_LE(relative_error(drawn.cpu(), golden("latents")), 2 * theirs);
}

TEST_P(PipelineOnGpu, DrawsTheSameBitsTwice) {
  TextToImagePipeline pipeline(folder_, bf16());
  EXPECT_TRUE(torch::equal(pictures(pipeline, 2), pictures(pipeline, 2)));
  EXPECT_EQ(pictures(pipeline, 1).sizes(), pictures(pipeline, 2).sizes());
}

TEST_P(PipelineOnGpu, ChangedLayersTakeEffect) {
  TextToImagePipeline pipeline(folder_, bf16());
  const torch::Tensor noise = golden("noise.bf16");
  const torch::Tensor dense = latents(pipeline, noise);
  const torch::Tensor sparse = latents(pipeline, noise, LinearMode::norm);
  EXPECT_FALSE(torch::equal(sparse, dense));
  EXPECT_TRUE(torch::equal(latents(pipeline, noise), dense));
  TextToImagePipeline fresh(folder_, bf16());
  EXPECT_TRUE(torch::equal(latents(fresh, noise, LinearMode::norm), sparse));
}

INSTANTIATE_TEST_SUITE_P(Goldens, PipelineOnGpu, testing::ValuesIn(kGoldens),
                         [](const auto& test) { return std::string(test.param); });

class TrueCfgParity : public PipelineParity {
 protected:
  /// `request` gives the golden's pictures, which are not those without guidance.
  void expect_golden(const PictureRequest& request, const std::string& name) {
    request_ = request;
    TextToImagePipeline pipeline(folder_, torch::kFloat32);
    const torch::Tensor exact = golden(name + ".latents");
    EXPECT_LE((latents(pipeline, golden("noise")) - exact).abs().max().item<float>(), 1e-4);
    EXPECT_GT((exact - golden("latents")).abs().max().item<float>(), 1e-2);
    expect_within_one(pictures(pipeline, 2), name + ".pixels");
  }
};

TEST_P(TrueCfgParity, ANegativePromptGuidesAsInDiffusers) { expect_golden(guided_, "true_cfg"); }

INSTANTIATE_TEST_SUITE_P(Goldens, TrueCfgParity,
                         testing::Values("pipeline_flux_dev", "pipeline_qwen_image",
                                         "pipeline_z_image"),
                         [](const auto& test) { return std::string(test.param); });

class ZImageParity : public TrueCfgParity {};

TEST_P(ZImageParity, WithoutANegativePromptTheEmptyOneIsTaken) {
  PictureRequest request = guided_;
  request.negative.reset();
  expect_golden(request, "no_negative");
}

TEST_P(ZImageParity, GuidanceIsTruncatedAndNormalizedAsInDiffusers) {
  expect_golden(bounded_, "bounded");
}

INSTANTIATE_TEST_SUITE_P(Goldens, ZImageParity, testing::Values("pipeline_z_image"),
                         [](const auto& test) { return std::string(test.param); });

/// Two prompts of two lengths take turns in two graphs.
class TrueCfgOnGpu : public PipelineOnGpu {};

TEST_P(TrueCfgOnGpu, IsAsFarFromFp32AsDiffusers) {
  request_ = guided_;
  TextToImagePipeline pipeline(folder_, bf16());
  const torch::Tensor drawn = latents(pipeline, golden("noise.bf16"));
  const torch::Tensor exact = golden("true_cfg.latents");
  const double theirs = relative_error(golden("true_cfg.latents.bf16"), exact);
  EXPECT_LE(relative_error(drawn.cpu(), exact), 2 * theirs);
  EXPECT_TRUE(torch::equal(latents(pipeline, golden("noise.bf16")), drawn));
}

INSTANTIATE_TEST_SUITE_P(Goldens, TrueCfgOnGpu,
                         testing::Values("pipeline_qwen_image", "pipeline_z_image"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace rtlynx
