// SPDX-License-Identifier: Apache-2.0
// What the autoencoders take at most, as torch's allocator on the CPU counts it.
#include <ATen/Context.h>
#include <c10/core/Allocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/vae/autoencoder_kl.h"
#include "models/vae/autoencoder_kl_qwen_image.h"
#include "models/vae/vae_layers.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kFloat = sizeof(float);

/// Adds up what is taken and given back.
class Meter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t,
                         c10::Device) override {
    held_ += bytes;
    peak_ = std::max(peak_, held_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t peak() const { return peak_; }

 private:
  std::int64_t held_ = 0, peak_ = 0;
};

/// The most bytes that tensors made by `act` hold at once.
std::int64_t peak_of(const std::function<void()>& act) {
  const auto meter = std::make_shared<Meter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
  act();
  return meter->peak();
}

/// Without kernels that hold few scores, as where heads are too wide for them.
class PlainAttention : public testing::Test {
 protected:
  PlainAttention() { at::globalContext().setSDPUseFlash(false); }
  ~PlainAttention() override { at::globalContext().setSDPUseFlash(true); }
};

TEST_F(PlainAttention, HoldsTheScoresOfFewQueriesAtATime) {
  constexpr std::int64_t kPixels = 1024, kChannels = 8;
  const auto rows = [&] { return torch::randn({1, kPixels, kChannels}); };
  const torch::Tensor query = rows(), key = rows(), value = rows();
  torch::Tensor whole, parts;
  const std::int64_t all_scores = kPixels * kPixels * kFloat;
  EXPECT_GE(peak_of([&] { whole = attend_pixels(query, key, value); }), all_scores)
      << "a kernel without scores ran, and this test shows nothing";
  constexpr std::int64_t kScores = 40 * kPixels;  // the last part is a smaller one
  const std::int64_t peak = peak_of([&] { parts = attend_pixels(query, key, value, kScores); });
  // The scores and what their softmax takes beside them; query, key and value, parts and result.
  EXPECT_LE(peak, 4 * kScores * kFloat + 6 * query.numel() * kFloat);
  EXPECT_TRUE(torch::allclose(parts, whole, 1e-5, 1e-6));
}

std::shared_ptr<Vae> small_kl() {
  return make_autoencoder_kl({.latent_channels = 4,
                              .layers_per_block = 1,
                              .norm_num_groups = 4,
                              .block_out_channels = {16, 32, 32, 32}},
                             torch::kFloat32);
}

std::shared_ptr<Vae> small_qwen_image() {
  return make_autoencoder_kl_qwen_image({.base_dim = 16,
                                         .z_dim = 4,
                                         .num_res_blocks = 1,
                                         .dim_mult = {1, 2, 2, 2},
                                         .latents_mean = std::vector<double>(4, 0),
                                         .latents_std = std::vector<double>(4, 1)},
                                        torch::kFloat32);
}

class VaeMemory : public testing::TestWithParam<bool> {};

TEST_P(VaeMemory, ALimitIsKept) {
  constexpr std::int64_t kHeight = 256, kWidth = 1024;
  const std::shared_ptr<Vae> vae = GetParam() ? small_qwen_image() : small_kl();
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : vae->parameters()) parameter.normal_(0, 0.05);
  for (const bool channels_last : {false, true}) {
    vae->set_channels_last(channels_last);
    const auto decode = [&] { vae->decode(torch::zeros({1, 4, kHeight / 8, kWidth / 8})); };
    const std::int64_t limit = vae->smallest_memory_limit();
    // Beside a tile's activations: the pictures of tiles, put together, and a check of them.
    const std::int64_t pictures = 4 * kHeight * kWidth * 3 * kFloat;
    vae->set_memory_limit(vae->activation_bytes(kHeight, kWidth));
    const std::int64_t whole = peak_of(decode);
    EXPECT_GT(whole, limit + pictures) << "it would not have to be cut";
    EXPECT_LE(whole, vae->activation_bytes(kHeight, kWidth) + pictures);
    vae->set_memory_limit(limit);
    EXPECT_LE(peak_of(decode), limit + pictures);
  }
}

INSTANTIATE_TEST_SUITE_P(Small, VaeMemory, testing::Bool(), [](const auto& qwen_image) {
  return std::string(qwen_image.param ? "QwenImage" : "Kl");
});

}  // namespace
}  // namespace rtlynx
