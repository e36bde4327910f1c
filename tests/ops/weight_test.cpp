// SPDX-License-Identifier: Apache-2.0
// Products of sparse weights beside their formula in fp64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kImages = 2, kTokens = 35, kChannels = 208, kRank = 16;

/// A layer and its weight as it was before it was packed.
struct Case {
  at::Tensor sparse;  // [N, K]
  ops::WeightLayer layer;
};

class OpsWeight : public testing::PlaceTest {
 protected:
  /// Small integers; every part of the epilogue in one of them.
  static std::vector<Case> cases(std::size_t count, bool low_rank) {
    const std::int64_t outputs[] = {264, 24, 40, 8};
    std::vector<Case> cases;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t n = outputs[i];
      const at::Tensor sparse =
          std::get<0>(ops::sparsify24(integers({n, kChannels}), /*norm=*/false));
      ops::WeightLayer layer{.weight = ops::pack_weight(sparse), .outputs = n};
      if (low_rank) layer.up = integers({n, kRank}, 1);
      layer.low_start = low_rank ? kRank * static_cast<std::int64_t>(i) : 0;
      if (i != 1) layer.bias = i == 0 ? integers({n}, 9) : fp32(integers({n}, 9));
      if (i != 2) layer.gate = integers({kImages, n}, 1);
      if (i != 3) layer.residual = integers({kImages, kTokens, n}, 9);
      cases.push_back({sparse, std::move(layer)});
    }
    return cases;
  }

  static std::vector<ops::WeightLayer> layers_of(const std::vector<Case>& cases) {
    std::vector<ops::WeightLayer> layers;
    for (const Case& one : cases) layers.push_back(one.layer);
    return layers;
  }

  static at::Tensor in_double(const at::Tensor& x, const at::Tensor& low, const Case& one) {
    const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    const ops::WeightLayer& layer = one.layer;
    at::Tensor y = wide(x).matmul(wide(one.sparse).t());
    if (layer.up.defined()) {
      y = y + wide(low).narrow(-1, layer.low_start, kRank).matmul(wide(layer.up).t());
    }
    if (layer.bias.defined()) y = y + wide(layer.bias);
    if (layer.activation == ops::Activation::gelu) y = at::gelu(y, "tanh");
    if (layer.gate.defined()) y = y * wide(layer.gate).unsqueeze(1);
    if (layer.residual.defined()) y = y + wide(layer.residual);
    return y.to(x.scalar_type());
  }
};

TEST_P(OpsWeight, OneToFourLayersAreTheirFormula) {
  const at::Tensor x = integers({kImages, kTokens, kChannels});
  const at::Tensor low = integers({kImages, kTokens, 4 * kRank}, 1);
  for (const std::size_t count : {1, 2, 3, 4}) {
    for (const bool low_rank : {false, true}) {
      SCOPED_TRACE(std::to_string(count) + (low_rank ? " with low rank" : ""));
      const std::vector<Case> layers = cases(count, low_rank);
      const auto ys = ops::weight_product(x, low, layers_of(layers));
      ASSERT_EQ(ys.size(), count);
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_TRUE(at::equal(ys[i], in_double(x, low, layers[i]))) << "layer " << i;
      }
    }
  }
}

TEST_P(OpsWeight, WritesIntoRowsThatLieApart) {
  const at::Tensor x = integers({kImages, kTokens, kChannels});
  const at::Tensor low = integers({kImages, kTokens, 0});
  const std::vector<Case> layers = cases(2, /*low_rank=*/false);
  const at::Tensor wide = at::full({kImages, kTokens, 320}, 7, x.options());
  ops::weight_product_out(x, low, layers_of(layers),
                          {wide.narrow(-1, 8, 264), wide.narrow(-1, 280, 24)});
  EXPECT_TRUE(at::equal(wide.narrow(-1, 8, 264), in_double(x, low, layers[0])));
  EXPECT_TRUE(at::equal(wide.narrow(-1, 280, 24), in_double(x, low, layers[1])));
  EXPECT_TRUE(at::equal(wide.narrow(-1, 0, 8), at::full({kImages, kTokens, 8}, 7, x.options())));
}

TEST_P(OpsWeight, GeluIsWithinItsRounding) {
  const at::Tensor x = normal({1, kTokens, kChannels});
  const at::Tensor low = normal({1, kTokens, 0});
  Case one = cases(1, /*low_rank=*/false).front();
  one.layer.gate = one.layer.residual = at::Tensor();
  one.layer.activation = ops::Activation::gelu;
  const at::Tensor y = ops::weight_product(x, low, {one.layer}).front();
  const at::Tensor expected = in_double(x, low, one);
  const double rounding = dtype() == DType::bf16 ? 0x1p-7 : dtype() == DType::f16 ? 0x1p-10 : 1e-5;
  EXPECT_TRUE(at::allclose(fp32(y), fp32(expected), rounding, 1e-3));
}

TEST_P(OpsWeight, RefusesWhatDoesNotFit) {
  const at::Tensor x = integers({1, kTokens, kChannels});
  const at::Tensor low = integers({1, kTokens, 0});
  const std::vector<ops::WeightLayer> layers = layers_of(cases(1, /*low_rank=*/false));
  EXPECT_ANY_THROW(ops::weight_product(x, low, {}));
  EXPECT_ANY_THROW(ops::weight_product(x.narrow(-1, 0, 192).contiguous(), low, layers));
  EXPECT_ANY_THROW(ops::weight_product(x, integers({1, kTokens + 1, 0}), layers));
  EXPECT_ANY_THROW(ops::pack_weight(integers({8, 24})));
}

RTLYNX_IN_PLACES(OpsWeight);

}  // namespace
}  // namespace rtlynx
