// SPDX-License-Identifier: Apache-2.0
// Against outputs of diffusers' own ZImageTransformer2DModel (tools/make_z_image_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "models/z_image/small_z_image.h"
#include "models/z_image/transformer.h"

namespace rtlynx {
namespace {

class ZImageParity : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / GetParam();
  }

  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }

  // The time stays fp32, as it does in diffusers' pipeline.
  ZImageInputs inputs(torch::ScalarType type) const {
    const torch::Tensor lengths = golden("in.caption_tokens");
    const auto* first = lengths.const_data_ptr<std::int64_t>();
    return {.hidden_states = golden("in.hidden_states").to(type),
            .encoder_hidden_states = golden("in.encoder_hidden_states").to(type),
            .caption_tokens = {first, first + lengths.numel()},
            .timestep = golden("in.timestep")};
  }

  torch::Tensor run(torch::ScalarType type) const {
    const torch::NoGradGuard no_grad;
    return load_z_image(folder(), torch::TensorOptions().dtype(type))->forward(inputs(type));
  }

  SafetensorsFile io_ = SafetensorsFile::open(folder() / "io.safetensors");
};

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

TEST_P(ZImageParity, Fp32MatchesDiffusers) {
  EXPECT_LE(relative_error(run(torch::kFloat32), golden("out")), 1e-5);
}

// The yardstick is diffusers' own bf16 error on the same inputs.
TEST_P(ZImageParity, Bf16IsAtMostTwiceAsFarFromFp32AsDiffusers) {
  const double diffusers = relative_error(golden("out.bf16"), golden("out"));
  EXPECT_LE(relative_error(run(torch::kBFloat16), golden("out")), 2 * diffusers);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ZImageParity,
                         testing::Values("z_image_1x1", "z_image_padded", "z_image_ragged",
                                         "z_image_head64"),
                         [](const auto& golden) { return std::string(golden.param); });

class ZImageInputErrors : public testing::Test {
 protected:
  static ZImageInputs good() {
    return {.hidden_states = torch::zeros({2, 4, 8, 6}),
            .encoder_hidden_states = torch::zeros({2, 3, 12}),
            .caption_tokens = {},
            .timestep = torch::zeros({2})};
  }

  static std::string refusal(const ZImageInputs& inputs) {
    const torch::NoGradGuard no_grad;
    ZImageTransformer model(test::small_z_image_config());
    try {
      model(inputs);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(ZImageInputErrors, NameTheInput) {
  EXPECT_EQ(refusal(good()), "accepted");
  ZImageInputs inputs = good();
  inputs.encoder_hidden_states = torch::zeros({2, 3, 11});
  EXPECT_EQ(refusal(inputs),
            "ZImageTransformer: required encoder_hidden_states [2, 3, 12], got [2, 3, 11]");
  inputs = good();
  inputs.timestep = torch::Tensor();
  EXPECT_EQ(refusal(inputs), "ZImageTransformer: required timestep [2], got none");
  inputs = good();
  inputs.hidden_states = torch::zeros({2, 4, 7, 6});
  EXPECT_NE(refusal(inputs).find("divisible by 2, got 2 of 7 x 6"), std::string::npos);
}

TEST_F(ZImageInputErrors, CaptionsHaveTheTokensThatTheySay) {
  ZImageInputs inputs = good();
  inputs.caption_tokens = {3};
  EXPECT_NE(refusal(inputs).find("2 captions"), std::string::npos);
  inputs.caption_tokens = {3, 4};
  EXPECT_NE(refusal(inputs).find("from 1 to 3, got 4"), std::string::npos);
  inputs.caption_tokens = {3, 0};
  EXPECT_NE(refusal(inputs).find("got 0"), std::string::npos);
}

// The table of rotations ends at axes_lens: the image stands one behind its padded caption.
TEST_F(ZImageInputErrors, PositionsEndWhereTheConfigSays) {
  ZImageInputs inputs = good();
  inputs.encoder_hidden_states = torch::zeros({2, 96, 12});
  EXPECT_EQ(refusal(inputs), "accepted");
  inputs.encoder_hidden_states = torch::zeros({2, 97, 12});
  EXPECT_NE(refusal(inputs).find("axes_lens"), std::string::npos);
  inputs = good();
  inputs.hidden_states = torch::zeros({2, 4, 66, 2});
  EXPECT_NE(refusal(inputs).find("axes_lens"), std::string::npos);
}

}  // namespace
}  // namespace rtlynx
