// SPDX-License-Identifier: Apache-2.0
#include "compensate/block_transform.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "compensate/closed_form.h"
#include "compensate/moments.h"
#include "compensate/small_layer.h"
#include "compensate/weight24.h"
#include "ops/ops.h"
#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 128;
constexpr std::int64_t kOut = 32;

class BlockTransform : public testing::Test {
 protected:
  // What is lost of the layer's output when two of four are kept in z, weights exact.
  double naive_error(const InputTransform& transform) {
    const torch::Tensor z = transform.apply(layer_.tokens.to(torch::kFloat32));
    InputMoments moments;
    moments.add(z, std::get<0>(ops::sparsify24(z, /*norm=*/false)));
    const torch::Tensor weight = transform.weight_for_z(layer_.weight);
    return relative_output_error(moments, weight, {.weight = weight, .low_rank = {}});
  }

  InputTransform of_block(std::int64_t block) {
    InputTransform transform = block_transform(layer_.moment, {layer_.weight}, block);
    transform.blocks = transform.blocks.to(torch::kFloat32);
    return transform;
  }

  test::SmallLayer layer_ = test::SmallLayer(kOut, kIn);
};

TEST_F(BlockTransform, IsStoredInBf16AndInvertedAsStored) {
  for (const std::int64_t block : kBlockSizes) {
    const InputTransform transform = block_transform(layer_.moment, {layer_.weight}, block);
    EXPECT_EQ(transform.blocks.sizes(), torch::IntArrayRef({kIn / block, block, block}));
    EXPECT_EQ(transform.blocks.scalar_type(), torch::kBFloat16);
    const torch::Tensor z =
        InputTransform{transform.blocks.to(torch::kFloat64), {}, {}}.apply(layer_.tokens);
    EXPECT_TRUE(z.mm(transform.weight_for_z(layer_.weight).t())
                    .allclose(layer_.tokens.mm(layer_.weight.t()), 1e-7, 1e-7))
        << block;
  }
}

TEST_F(BlockTransform, AxesAreUncorrelatedInEachBlock) {
  const InputTransform transform = of_block(16);
  const torch::Tensor z = transform.apply(layer_.tokens.to(torch::kFloat32)).narrow(1, 32, 16);
  const torch::Tensor moment = z.t().mm(z) / static_cast<double>(z.size(0));
  const torch::Tensor off = moment - moment.diagonal().diag();
  EXPECT_LE(off.abs().max().item<float>(), 0.02F * moment.diagonal().max().item<float>());
}

// With V = I the axes are orthonormal up to bf16's rounding.
TEST_F(BlockTransform, EqualWeightsGiveAKarhunenLoeveTransform) {
  const torch::Tensor weight = torch::eye(kIn, torch::kFloat64);
  const InputTransform transform = block_transform(layer_.moment, {weight}, 16);
  const torch::Tensor a = transform.blocks[3].to(torch::kFloat64);
  EXPECT_TRUE(a.t().mm(a).allclose(torch::eye(16, torch::kFloat64), 1e-2, 1e-2));
}

TEST_F(BlockTransform, LosesLessTheLargerTheBlock) {
  double last = naive_error({});
  for (const std::int64_t block : kBlockSizes) {
    const double error = naive_error(of_block(block));
    EXPECT_LT(error, last) << block;
    last = error;
  }
}

// Rounding A to bf16 may swap axes of nearly equal energy.
TEST_F(BlockTransform, AxesStandInSnakeOrderOfTheirEnergy) {
  const InputTransform transform = of_block(16);
  const torch::Tensor a = transform.blocks[0].to(torch::kFloat64);
  const torch::Tensor columns = layer_.weight.narrow(1, 0, 16);
  const torch::Tensor inverse = torch::linalg_inv(a);
  const torch::Tensor moment = layer_.moment.narrow(0, 0, 16).narrow(1, 0, 16);
  // Of the outputs that each axis carries: E[z_j^2] ||column j of W A^-T||^2.
  const torch::Tensor energy = a.t().mm(moment).mm(a).diagonal() *
                               inverse.mm(columns.t().mm(columns)).mm(inverse.t()).diagonal();
  const torch::Tensor place = energy.argsort(0, /*descending=*/true).argsort();
  const torch::Tensor wanted = snake_order(-torch::arange(16));
  EXPECT_LE((place - wanted).abs().max().item<std::int64_t>(), 1);
}

TEST_F(BlockTransform, UnusedDirectionsDoNotMakeItSingular) {
  const torch::Tensor narrow = layer_.weight.narrow(0, 0, 2);  // rank 2 of 64
  const InputTransform transform = block_transform(layer_.moment, {narrow}, 64);
  EXPECT_TRUE(transform.weight_for_z(narrow).isfinite().all().item<bool>());
}

TEST_F(BlockTransform, AllLayersOfAnInputCount) {
  const torch::Tensor other = torch::randn({8, kIn}, torch::kFloat64);
  const torch::Tensor both = torch::cat({layer_.weight, other});
  EXPECT_TRUE(
      block_transform(layer_.moment, {layer_.weight, other}, 16)
          .blocks.to(torch::kFloat32)
          .abs()
          .allclose(block_transform(layer_.moment, {both}, 16).blocks.to(torch::kFloat32).abs(),
                    1e-2, 1e-2));
}

TEST_F(BlockTransform, BlocksThatCannotBeAreRefused) {
  const auto with = [&](std::int64_t block) {
    return refusal([&] { block_transform(layer_.moment, {layer_.weight}, block); });
  };
  EXPECT_EQ(
      with(32),
      "block_transform: required blocks of 4, 16, 64 or 128 channels that divide 128, got 32");
  const test::SmallLayer odd(4, 24);
  EXPECT_NE(refusal([&] { block_transform(odd.moment, {odd.weight}, 16); }).find("divide 24"),
            std::string::npos);
  EXPECT_THROW(block_transform(layer_.moment, {}, 16), Error);
  EXPECT_THROW(block_transform(odd.moment, {layer_.weight}, 16), Error);
}

TEST_F(BlockTransform, InputsAndWeightsOfZerosHaveAnInverse) {
  const torch::Tensor none = torch::zeros_like(layer_.moment);
  const torch::Tensor weight = torch::zeros_like(layer_.weight);
  for (const torch::Tensor& moment : {none, layer_.moment}) {
    const InputTransform transform = block_transform(moment, {weight}, 16);
    EXPECT_TRUE(transform.blocks.isfinite().all().item<bool>());
    EXPECT_EQ(transform.weight_for_z(weight).count_nonzero().item<std::int64_t>(), 0);
  }
  EXPECT_TRUE(block_transform(none, {layer_.weight}, 16).blocks.isfinite().all().item<bool>());
}

TEST_F(BlockTransform, ColumnNormsWeighChannels) {
  const InputTransform transform = column_norm_transform({layer_.weight, layer_.weight});
  const torch::Tensor norms = layer_.weight.norm(2, {0});
  EXPECT_TRUE(transform.scale.to(torch::kFloat64).allclose(norms / norms.mean(), 1e-2, 1e-3));
  torch::Tensor dead = layer_.weight.clone();
  dead.select(1, 3).zero_();
  EXPECT_GT(column_norm_transform({dead}).scale[3].item<double>(), 0);
  EXPECT_TRUE(column_norm_transform({torch::zeros({2, 8})}).scale.eq(1).all().item<bool>());
}

TEST_F(BlockTransform, ColumnNormsLoseLessAndThePermutationLessStill) {
  // Channels of very different strength, weights and inputs independent.
  layer_.weight = layer_.weight * torch::exp(torch::randn({kIn}, torch::kFloat64));
  InputTransform norms = column_norm_transform({layer_.weight});
  InputTransform dealt = column_norm_transform_permuted(layer_.moment, {layer_.weight});
  for (InputTransform* transform : {&norms, &dealt}) {
    transform->scale = transform->scale.to(torch::kFloat32);
  }
  EXPECT_LT(naive_error(norms), naive_error({}));
  EXPECT_LT(naive_error(dealt), naive_error(norms));
}

}  // namespace
}  // namespace rtlynx
