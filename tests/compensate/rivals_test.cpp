// SPDX-License-Identifier: Apache-2.0
#include "compensate/rivals.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "compensate/block_transform.h"
#include "compensate/small_layer.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kRank = 4;

TEST(Rivals, AreWhatTheySayAfterRounding) {
  const test::SmallLayer layer(48, 64);
  const double energy = layer.tokens.matmul(layer.weight.t()).square().sum().item<double>() / 400;
  double pruned = 0;
  for (const RivalMethod method : kRivalMethods) {
    const auto rival = solve_rival(method, layer.weight, layer.moment, kRank);
    ASSERT_TRUE(rival) << to_string(method);
    rival->values.check(64, 48);
    const double error = std::sqrt(layer.output_error(rival->values.effective()) / energy);
    EXPECT_NEAR(rival->error, error, 1e-9) << to_string(method);
    EXPECT_LT(rival->error, 1);
    EXPECT_GT(rival->error, 1e-4);
    if (method == RivalMethod::sparse_gpt) pruned = rival->error;
    if (method == RivalMethod::sparse_gpt_low_rank) {
      EXPECT_LT(rival->error, pruned);
      EXPECT_EQ(rival->values.rank(), kRank);
      EXPECT_TRUE(rival->values.sparse);
    }
  }
}

TEST(Rivals, HalvesNeedWholeBlocks) {
  const test::SmallLayer layer(8, 32);
  EXPECT_FALSE(solve_rival(RivalMethod::fixed_half, layer.weight, layer.moment, kRank));
}

TEST(Rivals, TheInputsMomentComesBackThroughEveryTransform) {
  const test::SmallLayer layer(8, 32);
  InputTransform scaled;
  scaled.scale = torch::rand({32}, torch::kFloat64) + 0.5;
  InputTransform dealt = scaled;
  dealt.permutation = torch::randperm(32);
  const InputTransform blocks = block_transform(layer.moment, {layer.weight}, 16);
  for (const InputTransform& transform : {InputTransform(), scaled, dealt, blocks}) {
    InputMoments moments;
    InputTransform wide = transform;
    if (wide.blocks.defined()) wide.blocks = wide.blocks.to(torch::kFloat64);
    if (wide.scale.defined()) wide.scale = wide.scale.to(torch::kFloat64);
    moments.add(wide.apply(layer.tokens));
    const torch::Tensor back = input_second_moment(moments, transform);
    EXPECT_LT(((back - layer.moment).norm() / layer.moment.norm()).item<double>(), 1e-4);
  }
}

TEST(RivalNames, AreReadBack) {
  for (const RivalMethod method : kRivalMethods) {
    EXPECT_EQ(rival_method_from_string(to_string(method)), method);
  }
  EXPECT_THROW(rival_method_from_string("sorcery"), UsageError);
}

}  // namespace
}  // namespace rtlynx
