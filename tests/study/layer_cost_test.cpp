// SPDX-License-Identifier: Apache-2.0
#include "study/layer_cost.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "mini/small_pipeline.h"
#include "study/calibration_run.h"

namespace rtlynx {
namespace {

// One number in memory, whatever the shape.
torch::Tensor zeros(torch::IntArrayRef shape) { return torch::zeros({1}).expand(shape); }

LayerCompensation compensated(std::int64_t rank, const LayerWork& work, std::int64_t block = 0) {
  LayerCompensation layer;
  if (rank > 0) {
    layer.values.down = zeros({rank, work.in_features});
    layer.values.up = zeros({work.out_features, rank});
  }
  if (block > 0) layer.values.transform.blocks = zeros({work.in_features / block, block, block});
  return layer;
}

LayerCompensation replaced(const Replacement& replacement) {
  LayerCompensation layer;
  layer.replacement = replacement;
  return layer;
}

double microseconds(const LayerWork& work, const LayerCompensation& layer) {
  return layer_cost(CostMeasure::time, work, layer).value.value();
}

TEST(RelativeFlops, CountsLowRankAndTransform) {
  LayerWork work{.in_features = 64, .out_features = 128};
  EXPECT_DOUBLE_EQ(relative_flops(compensated(0, work), work), 0.5);
  EXPECT_DOUBLE_EQ(relative_flops(compensated(8, work), work), 0.5 + 8.0 * (64 + 128) / (64 * 128));
  work.input_share = 0.5;
  EXPECT_DOUBLE_EQ(relative_flops(compensated(8, work, 16), work),
                   0.5 + (8.0 * (64 + 128) + 0.5 * 16 * 64) / (64 * 128));
  EXPECT_DOUBLE_EQ(relative_flops(replaced({.weight = zeros({128, 64}), .sparse = true}), work),
                   0.5);
}

// FLUX.1 at 1024 x 1024: a layer for which the H200's times are in the kernels' table.
class FluxLayer : public testing::Test {
 protected:
  LayerWork work_{.tokens = 4096, .in_features = 3072, .out_features = 12288};
  double dense_ = dense_cost(CostMeasure::time, work_).value.value();
};

TEST_F(FluxLayer, TakesTheMeasuredTimes) {
  EXPECT_EQ(dense_, 409.9);
  const LayerCost cost = layer_cost(CostMeasure::time, work_, compensated(64, work_));
  EXPECT_EQ(cost.value, 297.4);
  EXPECT_EQ(cost.source, "measured");
}

TEST_F(FluxLayer, BlocksLengthenThePackAlone) {
  const double plain = microseconds(work_, compensated(64, work_));
  const double blocks = microseconds(work_, compensated(64, work_, 64));
  EXPECT_GT(blocks, plain);
  EXPECT_LT(blocks, 1.01 * plain);  // 5 % of a pack of 20 us
  EXPECT_LT(blocks, microseconds(work_, compensated(64, work_, 128)));
}

TEST_F(FluxLayer, RivalsAreFasterThanDense) {
  const torch::Tensor weight = zeros({12288, 3072});
  const double pruned = microseconds(work_, replaced({.weight = weight, .sparse = true}));
  EXPECT_LT(pruned, microseconds(work_, compensated(0, work_)));  // it needs no pack
  const double with_low_rank = microseconds(
      work_,
      replaced(
          {.weight = weight, .down = zeros({64, 3072}), .up = zeros({12288, 64}), .sparse = true}));
  EXPECT_GT(with_low_rank, pruned);
  EXPECT_LT(with_low_rank, dense_);
  const double half =
      microseconds(work_, replaced({.axes = zeros({48, 64, 32}), .weight = zeros({12288, 1536})}));
  const double low_rank =
      microseconds(work_, replaced({.down = zeros({1228, 3072}), .up = zeros({12288, 1228})}));
  for (const double fixed : {half, low_rank}) {
    EXPECT_GT(fixed, dense_ / 2);
    EXPECT_LT(fixed, dense_);
  }
}

TEST_F(FluxLayer, WithoutAKernelThereIsNoTime) {
  const LayerCost odd_rank = layer_cost(CostMeasure::time, work_, compensated(24, work_));
  EXPECT_FALSE(odd_rank.value);
  EXPECT_NE(odd_rank.source.find("rank 24"), std::string::npos);
  work_.tokens = 512;
  EXPECT_EQ(layer_cost(CostMeasure::time, work_, compensated(64, work_)).source,
            "fewer than 1024 tokens");
}

TEST(LayerWorks, AreThoseOfOneCall) {
  Pipeline pipeline = test::small_pipeline();
  GenerateRequest request = calibration_request({.prompts = 2, .seed = 3, .steps = 1});
  request.width = request.height = pipeline.trained_size;
  const DenseTrajectory trajectory = record_trajectory(pipeline, request, 2);
  const auto work = layer_work(pipeline, trajectory, 3);
  // Two guidance branches of 256 image and 24 text tokens.
  EXPECT_EQ(work.at("single_transformer_blocks.0.attn.to_q").tokens, 3 * 2 * (256 + 24));
  EXPECT_EQ(work.at("transformer_blocks.0.attn.to_q").tokens, 3 * 2 * 256);
  EXPECT_EQ(work.at("transformer_blocks.0.ff.net.2").in_features, 256);
}

TEST(CostMeasures, AreReadBack) {
  for (const CostMeasure measure : {CostMeasure::multiplications, CostMeasure::time}) {
    EXPECT_EQ(cost_measure_from_string(to_string(measure)), measure);
  }
  EXPECT_THROW(cost_measure_from_string("money"), UsageError);
}

}  // namespace
}  // namespace rtlynx
