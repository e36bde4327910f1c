// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"

namespace rtlynx {
namespace {

using testing::relative_error;
using testing::same_bits;

constexpr std::int64_t kImages = 2, kTokens = 35, kChannels = 208, kRank = 16;

class OpsProduct : public testing::PlaceTest {
 protected:
  /// Layers of small integers, every part of the epilogue in one of them; ends of weights that no
  /// tile divides.
  static std::vector<ops::ProductLayer> exact_layers(std::size_t count, bool low_rank) {
    const std::int64_t outputs[] = {264, 24, 40, 8};
    std::vector<ops::ProductLayer> layers;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t n = outputs[i];
      ops::ProductLayer layer{.weight = integers({n, kChannels})};
      if (low_rank) layer.up = integers({n, kRank}, 1);
      layer.low_start = low_rank ? kRank * static_cast<std::int64_t>(i) : 0;
      if (i != 1) layer.bias = i == 0 ? integers({n}, 9) : fp32(integers({n}, 9));
      if (i != 2) layer.gate = integers({kImages, n}, 1);
      if (i != 3) layer.residual = integers({kImages, kTokens, n}, 9);
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  static ops::Packed exact_input() {
    return ops::pack(integers({kImages, kTokens, kChannels}),
                     {.down = integers({4 * kRank, kChannels}, 1), .norm = false});
  }

  static void expect_specified(const std::vector<at::Tensor>& ys, const ops::Packed& packed,
                               const std::vector<ops::ProductLayer>& layers) {
    const auto expected =
        testing::specified_product(testing::as_specified(packed, kChannels), layers);
    ASSERT_EQ(ys.size(), layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      SCOPED_TRACE("layer " + std::to_string(i));
      EXPECT_EQ(ys[i].sizes(), at::IntArrayRef({kImages, kTokens, layers[i].weight.size(0)}));
      EXPECT_TRUE(ys[i].is_contiguous());
      EXPECT_TRUE(same_bits(testing::rows_of(ys[i]), expected[i]));
    }
  }
};

TEST_P(OpsProduct, OneToFourLayersAreTheSpecifiedOnes) {
  const ops::Packed packed = exact_input();
  for (const std::size_t count : {1, 2, 3, 4}) {
    for (const bool low_rank : {false, true}) {
      SCOPED_TRACE(std::to_string(count) + (low_rank ? " with low rank" : ""));
      const auto layers = exact_layers(count, low_rank);
      expect_specified(ops::product(packed, layers), packed, layers);
    }
  }
}

TEST_P(OpsProduct, LayersShareColumnsOfLow) {
  const ops::Packed packed = exact_input();
  auto layers = exact_layers(3, /*low_rank=*/true);
  layers[0].low_start = layers[1].low_start = layers[2].low_start = 32;
  expect_specified(ops::product(packed, layers), packed, layers);
  layers[2].low_start = 0;
  expect_specified(ops::product(packed, layers), packed, layers);
}

TEST_P(OpsProduct, ScalesAndActivates) {
  const at::Tensor x = normal({kImages, kTokens, kChannels});
  const ops::Packed packed = ops::pack(x, {.down = normal({kRank, kChannels}, 0.07)});
  const ops::ProductLayer layer{.weight = normal({72, kChannels}, 0.07),
                                .up = normal({72, kRank}, 0.25),
                                .bias = normal({72}),
                                .activation = ops::Activation::gelu,
                                .gate = normal({kImages, 72}),
                                .residual = normal({kImages, kTokens, 72})};
  const testing::SpecifiedPack specified = testing::as_specified(packed, kChannels);
  const at::Tensor exact =
      testing::specified_product(testing::widened(specified), {testing::widened(layer)}).front();
  const at::Tensor y = testing::rows_of(ops::product(packed, {layer}).front());
  // What one rounding costs, and fp32 sums of K terms in another order.
  const double rounding = relative_error(exact.to(y.scalar_type()), exact);
  EXPECT_LE(relative_error(y, exact), 2 * rounding + kChannels * 0x1p-24);

  for (const auto activation : {ops::Activation::none, ops::Activation::gelu}) {
    ops::ProductLayer other = layer;
    other.activation = activation;
    const bool same = same_bits(testing::rows_of(ops::product(packed, {other}).front()), y);
    EXPECT_EQ(same, activation == ops::Activation::gelu);
  }
}

TEST_P(OpsProduct, TakesAnyStrides) {
  const ops::Packed packed = exact_input();
  const auto layers = exact_layers(4, /*low_rank=*/true);
  for (const auto view : {testing::transposed, testing::shifted, testing::spaced}) {
    auto viewed = layers;
    for (ops::ProductLayer& layer : viewed) {
      for (at::Tensor* tensor :
           {&layer.weight, &layer.up, &layer.bias, &layer.gate, &layer.residual}) {
        if (tensor->defined()) *tensor = view(*tensor);
      }
    }
    expect_specified(ops::product(packed, viewed), packed, layers);
    const ops::Packed apart{packed.operand, view(packed.scale), view(packed.low)};
    expect_specified(ops::product(apart, layers), packed, layers);
  }
}

TEST_P(OpsProduct, OutWritesColumnsOfAConcatenation) {
  const ops::Packed packed = exact_input();
  const auto layers = exact_layers(2, /*low_rank=*/true);
  const std::vector<at::Tensor> expected = ops::product(packed, layers);
  const at::Tensor room = normal({kImages, kTokens, 16 + 264 + 24 + 8});
  const at::Tensor before = room.clone();
  ops::product_out(packed, layers, {room.narrow(-1, 16, 264), room.narrow(-1, 280, 24)});
  EXPECT_TRUE(same_bits(room.narrow(-1, 16, 264), expected[0]));
  EXPECT_TRUE(same_bits(room.narrow(-1, 280, 24), expected[1]));
  EXPECT_TRUE(same_bits(room.narrow(-1, 0, 16), before.narrow(-1, 0, 16)));
  EXPECT_TRUE(same_bits(room.narrow(-1, 304, 8), before.narrow(-1, 304, 8)));
}

TEST_P(OpsProduct, TakesNoTokens) {
  const ops::Packed packed = ops::pack(normal({2, 0, 64}), {.down = normal({16, 64})});
  const std::vector<at::Tensor> ys = ops::product(
      packed, {{.weight = normal({8, 64}), .up = normal({8, 16}), .gate = normal({2, 8})},
               {.weight = normal({24, 64}), .up = normal({24, 16})}});
  EXPECT_EQ(ys[0].sizes(), at::IntArrayRef({2, 0, 8}));
  EXPECT_EQ(ys[1].sizes(), at::IntArrayRef({2, 0, 24}));
}

RTLYNX_IN_PLACES(OpsProduct);

class OpsLinear : public testing::PlaceTest {};

TEST_P(OpsLinear, IsAsExactAsADenseLayerOfItsType) {
  const std::int64_t m = 45, k = 256, n = 72, rank = 16;
  const at::Tensor x = normal({m, k}), weight = normal({n, k}), bias = normal({n});
  const at::Tensor down = normal({rank, k}, 0.1), up = normal({n, rank}, 0.1);
  const auto wide = [](const at::Tensor& tensor) { return tensor.cpu().to(at::kDouble); };
  const double dense_error =
      relative_error(at::linear(x, weight, bias), at::linear(wide(x), wide(weight), wide(bias)));
  const at::Tensor kept = wide(testing::kept_of(testing::specified_pack(x, {})));
  for (const bool norm : {false, true}) {
    const at::Tensor s =
        norm ? wide(x).norm(2, 1, true) / kept.norm(2, 1, true) : at::ones({m, 1}, at::kDouble);
    for (const bool with_lora : {false, true}) {
      for (const bool with_bias : {false, true}) {
        at::Tensor exact = s * kept.matmul(wide(weight).t());
        if (with_lora) exact += wide(x).matmul(wide(down).t()).matmul(wide(up).t());
        if (with_bias) exact += wide(bias);
        ops::Linear24Weights weights{.weight = weight};
        if (with_bias) weights.bias = bias;
        if (with_lora) weights.lora_down = down;
        if (with_lora) weights.lora_up = up;
        const at::Tensor y = ops::linear24(x, weights, norm);
        EXPECT_EQ(y.scalar_type(), x.scalar_type());
        EXPECT_LE(relative_error(y, exact), 2 * dense_error)
            << "norm " << norm << " lora " << with_lora << " bias " << with_bias;
      }
    }
  }
}

TEST_P(OpsLinear, IsPackAndProduct) {
  const at::Tensor x = normal({3, 7, 64}), down = normal({16, 64}, 0.1);
  const ops::ProductLayer layer{
      .weight = normal({24, 64}), .up = normal({24, 16}), .bias = normal({24})};
  for (const bool norm : {false, true}) {
    const at::Tensor y = ops::linear24(
        x, {.weight = layer.weight, .bias = layer.bias, .lora_down = down, .lora_up = layer.up},
        norm);
    const ops::Packed packed = ops::pack(x, {.down = down, .norm = norm});
    EXPECT_TRUE(same_bits(y, ops::product(packed, {layer}).front()));
  }
}

TEST_P(OpsLinear, TakesRanksAndOutputsThatTheTensorCoresDoNot) {
  const at::Tensor x = integers({9, 48}), weight = integers({20, 48});
  const at::Tensor down = integers({4, 48}, 1), up = integers({20, 4}, 1);
  const testing::SpecifiedPack packed = testing::specified_pack(x, {.down = down, .norm = false});
  const at::Tensor expected =
      testing::specified_product(packed, {{.weight = weight, .up = up}}).front();
  const at::Tensor y =
      ops::linear24(x, {.weight = weight, .lora_down = down, .lora_up = up}, /*norm=*/false);
  EXPECT_TRUE(same_bits(y, expected));
}

TEST_P(OpsLinear, TakesNoTokensAndNoRank) {
  EXPECT_EQ(ops::linear24(normal({0, 3, 16}), {.weight = normal({8, 16})}).sizes(),
            at::IntArrayRef({0, 3, 8}));
  const at::Tensor x = normal({4, 16}), weight = normal({8, 16});
  EXPECT_TRUE(same_bits(
      ops::linear24(x, {.weight = weight, .lora_down = normal({0, 16}), .lora_up = normal({8, 0})}),
      ops::linear24(x, {.weight = weight})));
}

RTLYNX_IN_PLACES(OpsLinear);

}  // namespace
}  // namespace rtlynx
