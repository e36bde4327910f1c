// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/places.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using ::testing::HasSubstr;
using testing::relative_error;

constexpr std::int64_t kImages = 2, kTokens = 35, kChannels = 256, kRank = 16;
constexpr double kUnit = 0x1p-7;
// What the Tensor Cores' accumulators of e4m3 cut off, of the result (docs/kernels.md).
constexpr double kAccumulation = 0.005;

at::Tensor codes(const at::Tensor& values) { return values.to(at::kFloat8_e4m3fn); }

class OpsE4m3 : public testing::PlaceTest {
 protected:
  void SetUp() override {
    PlaceTest::SetUp();
    if (on_gpu() && dtype() == DType::f32) GTEST_SKIP() << "e4m3 of fp32 is for the CPU";
  }

  /// Everything that decides an input, by producer.
  static ops::PackOptions options(const std::string& producer) {
    ops::PackOptions options{.producer = producer, .e4m3_unit = kUnit};
    options.down = normal({2 * kRank, kChannels}, 0.05);
    if (producer == "swiglu") options.up = normal({kImages, kTokens, kChannels});
    if (producer.ends_with("norm")) {
      options.scale = normal({kImages, kChannels}, 0.3);
      options.shift = normal({kImages, kChannels});
    }
    return options;
  }

  static std::vector<ops::ProductLayer> layers() {
    std::vector<ops::ProductLayer> layers;
    for (const std::int64_t outputs : {264, 40}) {
      layers.push_back({.weight = here(codes(16 * at::randn({outputs, kChannels}))),
                        .up = normal({outputs, kRank}),
                        .bias = normal({outputs}),
                        .low_start = layers.empty() ? 0 : kRank});
    }
    return layers;
  }
};

TEST_P(OpsE4m3, IsTheCpusOnAGpu) {
  if (!on_gpu()) GTEST_SKIP() << "the CPU is compared with its own 16 bits below";
  const at::Tensor x = normal({kImages, kTokens, kChannels}, 3.0);
  for (const std::string producer : {"none", "gelu", "swiglu", "layer_norm", "rms_norm"}) {
    SCOPED_TRACE(producer);
    const ops::PackOptions own = options(producer);
    const std::vector<ops::ProductLayer> with = layers();
    const std::vector<at::Tensor> ys = ops::product(ops::pack(x, own), with);

    ops::PackOptions cpu = own;
    for (ops::OptionalTensor* tensor : {&cpu.up, &cpu.scale, &cpu.shift, &cpu.down}) {
      *tensor = tensor->has_value() ? ops::OptionalTensor((*tensor)->cpu()) : std::nullopt;
    }
    std::vector<ops::ProductLayer> cpu_layers = with;
    for (ops::ProductLayer& layer : cpu_layers) {
      for (at::Tensor* tensor : {&layer.weight, &layer.up, &layer.bias}) *tensor = tensor->cpu();
    }
    const std::vector<at::Tensor> expected = ops::product(ops::pack(x.cpu(), cpu), cpu_layers);
    for (std::size_t i = 0; i < ys.size(); ++i) {
      const double rounding = 2.0 * testing::unit_roundoff(dtype());
      EXPECT_LE(relative_error(ys[i].cpu(), expected[i]), rounding + kAccumulation);
      EXPECT_EQ(ys[i].scalar_type(), x.scalar_type());
    }
  }
}

// The choice is that of the pack in the element type; a kept value times its factor, a power of
// two, is rounded to 4 bits, or to a step of 2^-9 near zero; low is in the same unit.
TEST_P(OpsE4m3, KeepsWhatThePackOfTheElementTypeKeeps) {
  if (on_gpu()) GTEST_SKIP() << "the operand of the Tensor Cores is opaque";
  const at::Tensor x = normal({kImages, kTokens, kChannels}, 3.0);
  for (const std::string producer : {"none", "gelu", "swiglu", "layer_norm", "rms_norm"}) {
    SCOPED_TRACE(producer);
    ops::PackOptions own = options(producer);
    const ops::Packed packed = ops::pack(x, own);
    own.e4m3_unit.reset();
    const ops::Packed plain = ops::pack(x, own);
    const at::Tensor kept = plain.operand.to(at::kDouble);
    const at::Tensor factor =
        (plain.scale.to(at::kDouble) * kUnit / packed.scale.to(at::kDouble)).unsqueeze(-1);
    EXPECT_TRUE(at::equal(factor.log2(), factor.log2().round()));
    EXPECT_LE((kept * factor).abs().max().item<double>(), 448.0);
    const at::Tensor exact = kept * factor;
    const at::Tensor error = (packed.operand.to(at::kDouble) - exact).abs();
    EXPECT_TRUE((error <= (exact.abs() * 0x1p-4).clamp_min(0x1p-10)).all().item<bool>());
    EXPECT_GT(error.max().item<double>(), 0.0);
    EXPECT_LE(relative_error(packed.low, plain.low.to(at::kDouble) * factor),
              2.0 * testing::unit_roundoff(dtype()));
  }
}

TEST_P(OpsE4m3, ProductsOfCodesAreThoseOfTheirValues) {
  if (on_gpu()) GTEST_SKIP() << "the operand of the Tensor Cores is opaque";
  const at::Tensor x = normal({kImages, kTokens, kChannels}, 3.0);
  const ops::Packed packed = ops::pack(x, options("none"));
  ASSERT_EQ(packed.operand.scalar_type(), at::kFloat8_e4m3fn);
  const std::vector<ops::ProductLayer> with = layers();
  const std::vector<at::Tensor> ys = ops::product(packed, with);
  for (std::size_t i = 0; i < ys.size(); ++i) {
    const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    const at::Tensor low = packed.low.narrow(-1, with[i].low_start, kRank);
    const at::Tensor sum = wide(packed.operand).matmul(wide(with[i].weight).t()) +
                           wide(low).matmul(wide(with[i].up).t());
    const at::Tensor exact = wide(packed.scale).unsqueeze(-1) * sum + wide(with[i].bias);
    EXPECT_LE(relative_error(ys[i], exact), 2.0 * testing::unit_roundoff(dtype()));
  }
}

TEST_P(OpsE4m3, WantsWeightsAndAnOperandOfOneType) {
  const at::Tensor x = normal({kImages, kTokens, kChannels});
  std::vector<ops::ProductLayer> with = layers();
  const ops::Packed plain = ops::pack(x, {.down = normal({2 * kRank, kChannels})});
  EXPECT_THAT(refusal([&] { ops::product(plain, with); }), HasSubstr("that pack gave"));
  with[1].weight = normal({40, kChannels});
  const ops::Packed packed = ops::pack(x, options("none"));
  EXPECT_THAT(refusal([&] { ops::product(packed, with); }), HasSubstr("product: required"));
}

TEST_P(OpsE4m3, UnitsAndGainsAreAboveZero) {
  const at::Tensor x = normal({kTokens, kChannels});
  for (const double wrong : {0.0, -1.0, std::nan("")}) {
    EXPECT_THAT(refusal([&] { ops::pack(x, {.e4m3_unit = wrong}); }),
                HasSubstr("weight unit above 0"));
    EXPECT_THAT(refusal([&] { ops::pack(x, {.e4m3_unit = 1.0, .transform_gain = wrong}); }),
                HasSubstr("transform gain above 0"));
  }
}

RTLYNX_IN_PLACES(OpsE4m3);

}  // namespace
}  // namespace rtlynx
