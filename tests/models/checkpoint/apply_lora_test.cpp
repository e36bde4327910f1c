// SPDX-License-Identifier: Apache-2.0
// A LoRA is added to what a layer computes, whatever its mode made of the weight.
#include "models/checkpoint/apply_lora.h"

#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "models/recipe.h"
#include "models/tensor_bytes.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 32, kOut = 24, kRank = 3;

class ApplyLora : public testing::Test {
 protected:
  ApplyLora() {
    torch::manual_seed(4);
    const torch::NoGradGuard no_grad;
    layer_->weight.normal_();
    layer_->bias.normal_();
    model_.register_module("layer", layer_.ptr());
    update_ = {.down = torch::randn({kRank, kIn}), .up = torch::randn({kOut, kRank})};
  }

  torch::Tensor run() {
    const torch::NoGradGuard no_grad;
    return layer_(x_);
  }

  /// What applying the update adds to the output.
  torch::Tensor change() {
    const torch::Tensor before = run();
    apply_updates(model_, {{"layer", update_}});
    return run() - before;
  }

  /// x D^T U^T: all channels, whatever else the layer does with x.
  torch::Tensor whole() const { return x_.matmul(update_.down.t()).matmul(update_.up.t()); }

  static void expect_close(const torch::Tensor& value, const torch::Tensor& exact) {
    EXPECT_LE((value - exact).abs().max().item<float>(), 1e-5 * exact.abs().max().item<float>());
  }

  torch::nn::Module model_;
  SparseLinear layer_{kIn, kOut};
  LowRankUpdate update_;
  const torch::Tensor x_ = torch::randn({5, kIn});
};

TEST_F(ApplyLora, ADenseLayerReadsAllChannels) { expect_close(change(), whole()); }

TEST_F(ApplyLora, ASparseLayerWithItsOwnWeightReadsTheMergedOne) {
  for (const LinearMode mode : {LinearMode::naive, LinearMode::norm}) {
    SparseLinear merged(kIn, kOut);
    {
      const torch::NoGradGuard no_grad;
      merged->weight.copy_(layer_->weight + update_.up.matmul(update_.down));
      merged->bias.copy_(layer_->bias);
    }
    merged->set_mode(mode);
    layer_->set_mode(mode);
    apply_updates(model_, {{"layer", update_}});
    const torch::NoGradGuard no_grad;
    expect_close(run(), merged(x_));
  }
}

TEST_F(ApplyLora, ATransformedAndRefittedWeightKeepsItsFit) {
  Compensation24 compensation;
  compensation.transform.scale = torch::rand({kIn}) + 0.5;
  compensation.weight = torch::randn({kOut, kIn});  // as if it had been refitted
  for (const bool with_low_rank : {false, true}) {
    if (with_low_rank) {
      compensation.down = torch::randn({16, kIn});
      compensation.up = torch::randn({kOut, 16});
    }
    layer_->set_compensation(compensation);
    layer_->set_mode(LinearMode::compensated);
    expect_close(change(), whole());
    EXPECT_TRUE(torch::equal(layer_->compensation()->weight, compensation.weight));
  }
}

TEST_F(ApplyLora, ACompensationThatReadsTheLayersOwnWeightLeavesIt) {
  layer_->set_compensation(Compensation24{});
  layer_->set_mode(LinearMode::compensated);
  const torch::Tensor weight = layer_->weight.clone();
  expect_close(change(), whole());
  EXPECT_TRUE(torch::equal(layer_->weight, weight));
}

TEST_F(ApplyLora, APrunedWeightStaysPruned) {
  Replacement pruned;
  pruned.weight = layer_->weight.detach().clone();
  pruned.weight.view({kOut, kIn / 4, 4}).narrow(2, 0, 2).zero_();
  pruned.sparse = true;
  layer_->set_replacement(pruned);
  layer_->set_mode(LinearMode::replaced);
  expect_close(change(), whole());
  EXPECT_TRUE(torch::equal(layer_->replacement()->weight, pruned.weight));
}

TEST_F(ApplyLora, RanksFillUpToWhatTheKernelsTake) {
  layer_->set_compensation(Compensation24{});
  layer_->set_mode(LinearMode::compensated);
  apply_updates(model_, {{"layer", update_}});
  EXPECT_EQ(layer_->compensation()->rank(), 16);
}

TEST_F(ApplyLora, SeveralFilesAddUpWithTheirStrengths) {
  const test::TempDir temporary;
  const std::vector<std::pair<std::string, torch::Tensor>> tensors = {
      {"layer.lora_A.weight", update_.down}, {"layer.lora_B.weight", update_.up}};
  const TensorBytes bytes(tensors);
  write_safetensors(temporary / "a.safetensors", bytes.entries());
  const std::vector<LoraFile> files = {{.path = temporary / "a.safetensors"},
                                       {.path = temporary / "a.safetensors", .strength = -0.25}};
  const torch::Tensor before = run();
  apply_updates(model_, read_loras(model_, {}, files));
  expect_close(run() - before, 0.75 * whole());
}

}  // namespace
}  // namespace rtlynx
