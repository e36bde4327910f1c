// SPDX-License-Identifier: Apache-2.0
// Against outputs of diffusers' own FluxTransformer2DModel (tools/make_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"
#include "models/recipe.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

class FluxParity : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / GetParam();
  }

  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }

  // Positions stay fp32, as they do in diffusers' pipelines.
  FluxInputs inputs(torch::ScalarType type) const {
    const bool guided = io_.contains("in.guidance");
    return {.hidden_states = golden("in.hidden_states").to(type),
            .encoder_hidden_states = golden("in.encoder_hidden_states").to(type),
            .pooled_projections = golden("in.pooled_projections").to(type),
            .timestep = golden("in.timestep").to(type),
            .guidance = guided ? golden("in.guidance").to(type) : torch::Tensor(),
            .img_ids = golden("in.img_ids"),
            .txt_ids = golden("in.txt_ids")};
  }

  torch::Tensor run(torch::ScalarType type, LinearMode mode = LinearMode::dense) const {
    const torch::NoGradGuard no_grad;
    FluxTransformer model = load_flux(folder(), torch::TensorOptions().dtype(type));
    apply_recipe(*model, paper_layers(model->groups()), mode);
    return model->forward(inputs(type));
  }

  SafetensorsFile io_ = SafetensorsFile::open(folder() / "io.safetensors");
};

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

TEST_P(FluxParity, Fp32MatchesDiffusers) {
  EXPECT_LE(relative_error(run(torch::kFloat32), golden("out")), 1e-5);
}

// diffusers' model with the paper's layers on two of every four inputs, by plain torch. A choice
// between nearly equal channels would show as an error of some percent.
TEST_P(FluxParity, TwoOfFourInputsOfThePapersLayersMatchPlainTorch) {
  EXPECT_LE(relative_error(run(torch::kFloat32, LinearMode::norm), golden("out.norm")), 1e-5);
}

// The yardstick is diffusers' own bf16 error on the same inputs.
TEST_P(FluxParity, Bf16IsAtMostTwiceAsFarFromFp32AsDiffusers) {
  const double diffusers = relative_error(golden("out.bf16"), golden("out"));
  EXPECT_LE(relative_error(run(torch::kBFloat16), golden("out")), 2 * diffusers);
}

// Rounded times move the bf16 output far from fp32's, so the bound above is loose. This one holds
// the C++ model to the same roundings: it stays within the noise of bf16 arithmetic around
// diffusers'.
TEST_P(FluxParity, Bf16RoundsTheTimesAsDiffusersDoes) {
  EXPECT_LE(relative_error(run(torch::kBFloat16), golden("out.bf16")), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Goldens, FluxParity,
                         testing::Values("flux_1x1", "flux_2x3_guidance", "flux_head64",
                                         "flux_ids"),
                         [](const auto& golden) { return std::string(golden.param); });

class FluxInputErrors : public testing::Test {
 protected:
  static FluxInputs good() {
    return {.hidden_states = torch::zeros({1, 4, 8}),
            .encoder_hidden_states = torch::zeros({1, 3, 12}),
            .pooled_projections = torch::zeros({1, 12}),
            .timestep = torch::zeros({1}),
            .guidance = {},
            .img_ids = torch::zeros({4, 3}),
            .txt_ids = torch::zeros({3, 3})};
  }

  static std::string refusal(const FluxInputs& inputs,
                             const FluxConfig& config = test::small_flux_config()) {
    FluxTransformer model(config);
    try {
      model(inputs);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(FluxInputErrors, NameTheInput) {
  FluxInputs inputs = good();
  inputs.pooled_projections = torch::zeros({1, 11});
  EXPECT_EQ(refusal(inputs), "FluxTransformer: required pooled_projections [1, 12], got [1, 11]");
  inputs = good();
  inputs.img_ids = torch::zeros({5, 3});
  EXPECT_EQ(refusal(inputs), "FluxTransformer: required img_ids [4, 3], got [5, 3]");
  inputs = good();
  inputs.timestep = torch::Tensor();
  EXPECT_EQ(refusal(inputs), "FluxTransformer: required timestep [1], got none");
}

TEST_F(FluxInputErrors, GuidanceHasToFitTheConfig) {
  FluxInputs inputs = good();
  inputs.guidance = torch::zeros({1});
  EXPECT_NE(refusal(inputs).find("guidance_embeds = false"), std::string::npos);
  EXPECT_EQ(refusal(good()), "accepted");
  FluxConfig guided = test::small_flux_config();
  guided.guidance_embeds = true;
  EXPECT_EQ(refusal(good(), guided), "FluxTransformer: required guidance [1], got none");
}

}  // namespace
}  // namespace rtlynx
