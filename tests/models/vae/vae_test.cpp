// SPDX-License-Identifier: Apache-2.0
// What the autoencoders do beside arithmetic, on the small models of vae_parity_test.cpp.
#include "models/vae/vae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "io/safetensors.h"
#include "models/tensor_bytes.h"
#include "models/vae/vae_layers.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

using testing::HasSubstr;

const fs::path kGoldens = fs::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";

class VaeTest : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<Vae> vae_ = load_vae(kGoldens / GetParam(), torch::kFloat32);
};

INSTANTIATE_TEST_SUITE_P(Small, VaeTest, testing::Values("vae_kl", "vae_qwen_image"),
                         [](const auto& golden) { return std::string(golden.param); });

TEST_P(VaeTest, PicturesOfABatchDoNotDependOnEachOther) {
  const torch::Tensor latents = torch::randn({3, 4, 4, 6});
  const torch::Tensor together = vae_->decode(latents);
  const torch::Tensor alone = vae_->decode(latents.narrow(0, 1, 1));
  EXPECT_TRUE(together.narrow(0, 1, 1).equal(alone));
}

TEST_P(VaeTest, AMemoryLimitCutsPicturesThatNeedMore) {
  const torch::Tensor latents = torch::randn({1, 4, 64, 128});
  const torch::Tensor whole = vae_->decode(latents);
  vae_->set_memory_limit(vae_->activation_bytes(256, 512));
  EXPECT_TRUE(vae_->decode(latents).equal(whole)) << "it fits";
  vae_->set_memory_limit(vae_->activation_bytes(256, 512) - 1);
  const torch::Tensor cut = vae_->decode(latents);
  EXPECT_FALSE(cut.equal(whole)) << "it was to be cut";
  // 352 is the largest multiple of 16 whose square is within 256 * 512.
  const auto tiled = load_vae(kGoldens / GetParam(), torch::kFloat32);
  tiled->set_tiling(VaeTiling{.tile = 352, .overlap = 88});
  EXPECT_TRUE(cut.equal(tiled->decode(latents)));
  EXPECT_EQ(cut.sizes(), whole.sizes());
}

TEST_P(VaeTest, AMemoryLimitBelowTheSmallestTileIsRefused) {
  const std::int64_t smallest = vae_->activation_bytes(256, 256);
  EXPECT_EQ(refusal([&] { vae_->set_memory_limit(smallest); }), "accepted");
  EXPECT_THAT(refusal([&] { vae_->set_memory_limit(smallest - 1); }),
              HasSubstr("VAE memory limit: required at least " + std::to_string(smallest)));
}

TEST_P(VaeTest, ActivationsOfHalfTheTypeTakeHalfTheMemory) {
  const auto half = load_vae(kGoldens / GetParam(), torch::kBFloat16);
  EXPECT_EQ(vae_->activation_bytes(64, 96), 2 * half->activation_bytes(64, 96));
}

TEST_P(VaeTest, EncodingIsTiledAsWell) {
  const torch::Tensor pixels = torch::rand({1, 3, 64, 96});
  vae_->set_tiling(VaeTiling{.tile = 32, .overlap = 8});
  const LatentDistribution latents = vae_->encode(pixels);
  EXPECT_EQ(latents.mean.sizes(), (std::vector<std::int64_t>{1, 4, 16, 24}));
  EXPECT_EQ(latents.deviation.sizes(), latents.mean.sizes());
}

TEST_P(VaeTest, ShapesAreChecked) {
  EXPECT_EQ(refusal([&] {
              vae_->decode(torch::zeros({1, 5, 4, 4}));
            }),
            "VAE decoder: required latents [B, 4, h, w], got [1, 5, 4, 4]");
  EXPECT_EQ(refusal([&] {
              vae_->decode(torch::zeros({4, 4, 4}));
            }),
            "VAE decoder: required latents [B, 4, h, w], got [4, 4, 4]");
  EXPECT_EQ(refusal([&] {
              vae_->encode(torch::zeros({1, 3, 8, 10}));
            }),
            "VAE encoder: required pixels [B, 3, H, W], H and W multiples of 4, got [1, 3, 8, 10]");
}

TEST_P(VaeTest, ValuesThatAreNotFiniteNameTheStage) {
  torch::Tensor bad = torch::zeros({1, 4, 4, 4});
  bad[0][1][2][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal([&] { vae_->decode(bad); }), HasSubstr("VAE decoder's latents: required"));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : vae_->parameters())
    parameter.fill_(std::numeric_limits<float>::infinity());
  EXPECT_THAT(refusal([&] {
                vae_->decode(torch::zeros({1, 4, 4, 4}));
              }),
              HasSubstr("VAE decoder: required finite values"));
  EXPECT_THAT(refusal([&] {
                vae_->encode(torch::zeros({1, 3, 8, 8}));
              }),
              HasSubstr("VAE encoder: required finite values"));
}

TEST_P(VaeTest, AnUnknownTensorIsRefusedByName) {
  const test::TempDir folder;
  fs::copy_file(kGoldens / GetParam() / "config.json", folder / "config.json");
  const SafetensorsFile file =
      SafetensorsFile::open(kGoldens / GetParam() / "diffusion_pytorch_model.safetensors");
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const std::string& name : file.names()) {
    tensors.emplace_back(name, copy_to_tensor(file.entry(name), name));
  }
  tensors.emplace_back("decoder.up_blocks.1.upsamplers.0.time_conv.weight", torch::zeros({2}));
  const TensorBytes bytes(tensors);
  write_safetensors(folder / "diffusion_pytorch_model.safetensors", bytes.entries());
  // In this place Qwen-Image's small autoencoder has no convolution over time either.
  EXPECT_THAT(refusal([&] { load_vae(folder.path(), torch::kFloat32); }),
              HasSubstr("tensor decoder.up_blocks.1.upsamplers.0.time_conv.weight"));
}

TEST(LatentDistribution, DrawsAroundTheMean) {
  const LatentDistribution latents{.mean = torch::tensor({1.0f, 2.0f}),
                                   .deviation = torch::tensor({0.5f, 0.0f})};
  EXPECT_TRUE(latents.sample(torch::tensor({2.0f, 9.0f})).equal(torch::tensor({2.0f, 2.0f})));
}

TEST(AttendPixels, FewQueriesAtATimeGiveTheSame) {
  const torch::Tensor query = torch::randn({2, 23, 8}, torch::kFloat64);
  const torch::Tensor key = torch::randn({2, 23, 8}, torch::kFloat64);
  const torch::Tensor value = torch::randn({2, 23, 8}, torch::kFloat64);
  const torch::Tensor expected =
      torch::softmax(query.matmul(key.transpose(1, 2)) / std::sqrt(8.0), -1).matmul(value);
  for (const std::int64_t max_scores : {1, 23 * 5, 23 * 23, 1 << 26}) {
    EXPECT_TRUE(torch::allclose(attend_pixels(query, key, value, max_scores), expected, 1e-9, 1e-9))
        << max_scores;
  }
}

}  // namespace
}  // namespace rtlynx
