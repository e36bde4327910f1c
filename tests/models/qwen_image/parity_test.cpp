// SPDX-License-Identifier: Apache-2.0
// Against outputs of diffusers' own QwenImageTransformer2DModel (tools/make_qwen_image_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/qwen_image/small_qwen_image.h"
#include "models/qwen_image/transformer.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

class QwenImageParity : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / GetParam();
  }

  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }

  QwenImageInputs inputs(torch::ScalarType type) const {
    QwenImageInputs inputs{.hidden_states = golden("in.hidden_states").to(type),
                           .encoder_hidden_states = golden("in.encoder_hidden_states").to(type),
                           .text_tokens = {},
                           .timestep = golden("in.timestep").to(type),
                           .img_shapes = {}};
    const torch::Tensor lengths = golden("in.text_tokens"), shapes = golden("in.img_shapes");
    for (std::int64_t i = 0; i < lengths.size(0); ++i) {
      inputs.text_tokens.push_back(lengths[i].item<std::int64_t>());
    }
    for (std::int64_t i = 0; i < shapes.size(0); ++i) {
      inputs.img_shapes.push_back({.rows = shapes[i][0].item<std::int64_t>(),
                                   .columns = shapes[i][1].item<std::int64_t>()});
    }
    return inputs;
  }

  torch::Tensor run(torch::ScalarType type) const {
    const torch::NoGradGuard no_grad;
    return load_qwen_image(folder(), torch::TensorOptions().dtype(type))->forward(inputs(type));
  }

  SafetensorsFile io_ = SafetensorsFile::open(folder() / "io.safetensors");
};

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

TEST_P(QwenImageParity, Fp32MatchesDiffusers) {
  EXPECT_LE(relative_error(run(torch::kFloat32), golden("out")), 1e-5);
}

// The yardstick is diffusers' own bf16 error on the same inputs.
TEST_P(QwenImageParity, Bf16IsAtMostTwiceAsFarFromFp32AsDiffusers) {
  const double diffusers = relative_error(golden("out.bf16"), golden("out"));
  EXPECT_LE(relative_error(run(torch::kBFloat16), golden("out")), 2 * diffusers);
}

// Rounded times move the bf16 output far from fp32's, so the bound above is loose. This one,
// FLUX's, holds the C++ model to the same roundings.
TEST_P(QwenImageParity, Bf16RoundsTheTimesAsDiffusersDoes) {
  EXPECT_LE(relative_error(run(torch::kBFloat16), golden("out.bf16")), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Goldens, QwenImageParity,
                         testing::Values("qwen_image_1x1", "qwen_image_odd", "qwen_image_padded",
                                         "qwen_image_edit"),
                         [](const auto& golden) { return std::string(golden.param); });

QwenImageInputs good() {
  return {.hidden_states = torch::zeros({2, 6, 8}),
          .encoder_hidden_states = torch::zeros({2, 3, 12}),
          .text_tokens = {3, 1},
          .timestep = torch::zeros({2}),
          .img_shapes = {{.rows = 1, .columns = 4}, {.rows = 2, .columns = 1}}};
}

std::string refusal(const QwenImageInputs& inputs) {
  QwenImageTransformer model(test::small_qwen_image_config());
  try {
    model(inputs);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(QwenImageInputErrors, NameTheInput) {
  EXPECT_EQ(refusal(good()), "accepted");
  QwenImageInputs inputs = good();
  inputs.timestep = torch::Tensor();
  EXPECT_EQ(refusal(inputs), "QwenImageTransformer: required timestep [2], got none");
  inputs = good();
  inputs.encoder_hidden_states = torch::zeros({2, 3, 11});
  EXPECT_EQ(refusal(inputs),
            "QwenImageTransformer: required encoder_hidden_states [2, 3, 12], got [2, 3, 11]");
  inputs = good();
  inputs.img_shapes.pop_back();
  EXPECT_EQ(refusal(inputs),
            "QwenImageTransformer: required img_shapes of the 6 tokens of hidden_states, got 4");
  inputs = good();
  inputs.text_tokens = {3, 0};
  EXPECT_EQ(refusal(inputs), "QwenImageTransformer: required text_tokens from 1 to 3, got 0");
  inputs.text_tokens = {3};
  EXPECT_EQ(refusal(inputs),
            "QwenImageTransformer: required text_tokens of 2 prompts, or none, got 1");
}

}  // namespace
}  // namespace rtlynx
