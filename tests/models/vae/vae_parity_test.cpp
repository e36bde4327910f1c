// SPDX-License-Identifier: Apache-2.0
// Against diffusers' AutoencoderKL, AutoencoderKLQwenImage and AutoencoderTiny
// (tools/make_vae_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "models/vae/autoencoder_tiny.h"
#include "models/vae/tiling.h"
#include "models/vae/vae.h"

namespace rtlynx {
namespace {

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

class VaeParity : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / GetParam();
  }
  torch::Tensor golden(const std::string& name) const {
    return copy_to_tensor(io_.entry(name), name);
  }
  std::shared_ptr<Vae> load(torch::ScalarType type) const { return load_vae(folder(), type); }

  /// fp32 to 1e-5; bf16 at most twice as far from fp32 as diffusers' own bf16.
  void expect_parity(const std::string& name, const torch::Tensor& fp32,
                     const torch::Tensor& bf16) const {
    const torch::Tensor exact = golden(name);
    ASSERT_EQ(fp32.sizes(), exact.sizes()) << name;
    EXPECT_LE(relative_error(fp32, exact), 1e-5) << name;
    EXPECT_EQ(bf16.scalar_type(), torch::kBFloat16);
    const double theirs = relative_error(golden(name + ".bf16"), exact);
    EXPECT_GT(theirs, 1e-4) << "the golden is not of bf16";
    EXPECT_LE(relative_error(bf16, exact), 2 * theirs) << name;
  }

  SafetensorsFile io_ = SafetensorsFile::open(folder() / "io.safetensors");
};

TEST_P(VaeParity, DecodesAsDiffusers) {
  const torch::Tensor latents = golden("in.latents");
  expect_parity("pixels", load(torch::kFloat32)->decode(latents),
                load(torch::kBFloat16)->decode(latents));
}

TEST_P(VaeParity, EncodesAsDiffusers) {
  const torch::Tensor pixels = golden("in.pixels");
  const auto fp32 = load(torch::kFloat32);
  const auto bf16 = load(torch::kBFloat16);
  const LatentDistribution exact = fp32->encode(pixels);
  const LatentDistribution rounded = bf16->encode(pixels);
  expect_parity("mean", exact.mean, rounded.mean);
  expect_parity("deviation", exact.deviation, rounded.deviation);
  expect_parity("scaled", fp32->scaled(exact.mean), bf16->scaled(rounded.mean));
}

TEST_P(VaeParity, TheLayoutInMemoryChangesNothingButRounding) {
  const auto vae = load(torch::kFloat32);
  for (const bool channels_last : {false, true}) {
    vae->set_channels_last(channels_last);
    EXPECT_LE(relative_error(vae->decode(golden("in.latents")), golden("pixels")), 1e-5);
    EXPECT_LE(relative_error(vae->encode(golden("in.pixels")).mean, golden("mean")), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, VaeParity, testing::Values("vae_kl", "vae_qwen_image"),
                         [](const auto& golden) { return std::string(golden.param); });

// diffusers lays its tiles otherwise (the last may be a sliver), so its tiles are given here.
class VaeTilingParity : public VaeParity {
 protected:
  const std::vector<TileSpan> rows_ = {{.start = 0, .size = 4}, {.start = 3, .size = 3}};
  const std::vector<TileSpan> columns_ = {
      {.start = 0, .size = 4}, {.start = 3, .size = 4}, {.start = 6, .size = 1}};
};

TEST_P(VaeTilingParity, DecodedTilesAreBlendedAsByDiffusers) {
  const auto vae = load(torch::kFloat32);
  const torch::Tensor pixels =
      run_tiled(golden("in.large_latents"), rows_, columns_, {.output = vae->factor()},
                [&](const torch::Tensor& tile) { return vae->decode(tile); });
  EXPECT_LE(relative_error(pixels, golden("tiled.pixels")), 1e-5);
}

TEST_P(VaeTilingParity, EncodedTilesAreBlendedAsByDiffusers) {
  const auto vae = load(torch::kFloat32);
  const torch::Tensor mean =
      run_tiled(golden("in.large_pixels"), rows_, columns_, {.input = vae->factor()},
                [&](const torch::Tensor& tile) { return vae->encode(tile).mean; });
  EXPECT_LE(relative_error(mean, golden("tiled.mean")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Goldens, VaeTilingParity, testing::Values("vae_kl", "vae_qwen_image"),
                         [](const auto& golden) { return std::string(golden.param); });

class TinyParity : public VaeParity {};

TEST_P(TinyParity, DecodesAsDiffusers) {
  const torch::Tensor latents = golden("in.latents");
  expect_parity("pixels", load_tiny_decoder(folder(), torch::kFloat32)->decode(latents),
                load_tiny_decoder(folder(), torch::kBFloat16)->decode(latents));
}

INSTANTIATE_TEST_SUITE_P(Goldens, TinyParity, testing::Values("vae_tiny"),
                         [](const auto& golden) { return std::string(golden.param); });

}  // namespace
}  // namespace rtlynx
