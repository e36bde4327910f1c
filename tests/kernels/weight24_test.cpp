// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/weight24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "kernels/in_double.h"
#include "kernels/test_product.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

/// What compress24 leaves of a matrix, as a matrix with zeros: a weight pruned by magnitude.
template <typename T>
TestMatrix<T> pruned(const TestMatrix<T>& dense) {
  const CompressedMatrix<T> compressed(dense);
  TestMatrix<T> sparse(dense.rows, dense.columns);
  expand24(compressed.values.view(), compressed.metadata.data(), sparse.view());
  return sparse;
}

/// A Linear with a sparse weight and the epilogue of TestProduct, whose weight is W~.
template <typename T>
struct SparseLayer {
  TestMatrix<T> x;
  TestMatrix<T> low{0, 0};
  TestProduct<T> product;
  std::vector<float> token_scale = {};
  std::vector<float> output_scale = {};

  TestMatrix<T> run() const {
    const TestMatrix<T>& w = product.weight;
    TestMatrix<T> values(w.rows, w.columns / 2), y(x.rows, w.rows);
    std::vector<std::uint16_t> metadata(static_cast<std::size_t>(w.rows * w.columns / 16));
    compress_weight24(w.view(), {.values = values.view(), .metadata = metadata.data()});
    const Product24 dense = product.arguments(y);
    const WeightProduct24 sparse{.values = values.view(),
                                 .metadata = metadata.data(),
                                 .scale = output_scale.empty() ? nullptr : output_scale.data(),
                                 .up = dense.up,
                                 .low_column = dense.low_column,
                                 .bias = dense.bias,
                                 .bias_dtype = dense.bias_dtype,
                                 .activation = dense.activation,
                                 .gate = dense.gate,
                                 .image_tokens = dense.image_tokens,
                                 .residual = dense.residual,
                                 .y = dense.y};
    weight_product24({.x = x.view(),
                      .scale = token_scale.empty() ? nullptr : token_scale.data(),
                      .low = low.view()},
                     {&sparse, 1});
    EXPECT_TRUE(y.gaps_untouched());
    return y;
  }
};

template <typename T>
SparseLayer<T> random_layer(std::int64_t tokens, std::int64_t channels, std::int64_t outputs,
                            std::int64_t rank) {
  SparseLayer<T> layer{.x = normal_matrix<T>(tokens, channels, 50),
                       .low = normal_matrix<T>(tokens, rank, 51),
                       .product = random_product<T>(outputs, channels, rank)};
  layer.product.weight = pruned(layer.product.weight);
  return layer;
}

/// The whole formula in double, with how far fp32 may take it.
template <typename T>
std::vector<Expected> in_double(const SparseLayer<T>& layer) {
  const TestProduct<T>& p = layer.product;
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < layer.x.rows; ++m) {
    const std::vector<double> x = widened(layer.x, m);
    std::vector<double> low;
    for (std::int64_t r = 0; r < p.up.columns; ++r) {
      low.push_back(layer.low.value(m, p.low_column + r));
    }
    for (std::int64_t n = 0; n < p.weight.rows; ++n) {
      const std::vector<double> w = widened(p.weight, n), up = widened(p.up, n);
      double unit = layer.token_scale.empty() ? 1 : layer.token_scale[static_cast<std::size_t>(m)];
      if (!layer.output_scale.empty()) unit *= layer.output_scale[static_cast<std::size_t>(n)];
      const double magnitudes = dot_of_magnitudes(x, w) + dot_of_magnitudes(low, up);
      Expected e{unit * (dot(x, w) + dot(low, up)),
                 unit * magnitudes * kFp32 * static_cast<double>(x.size() + low.size() + 2)};
      if (!p.bias.empty()) e.value += p.bias[static_cast<std::size_t>(n)];
      e.slack += kFp32 * std::fabs(e.value);
      if (p.activation == Activation::gelu) {
        const double slope = 1.2 * e.slack;  // GELU rises by no more
        e = gelu_in_double(e.value);
        e.slack += slope;
      }
      if (p.gate.rows > 0) {
        const double gate = p.gate.value(p.image_tokens == 0 ? 0 : m / p.image_tokens, n);
        e = {e.value * gate, (e.slack + kFp32 * std::fabs(e.value)) * std::fabs(gate)};
      }
      if (p.residual.rows > 0) {
        e.value += p.residual.value(m, n);
        e.slack += kFp32 * std::fabs(e.value);
      }
      expected.push_back(e);
    }
  }
  return expected;
}

template <typename T>
class Weight24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Weight24Test, ElementTypes);

TYPED_TEST(Weight24Test, CompressionLosesNothing) {
  const auto w = pruned(normal_matrix<TypeParam>(7, 96, 52));
  TestMatrix<TypeParam> values(7, 48), again(7, 96);
  std::vector<std::uint16_t> metadata(7 * 6);
  compress_weight24(w.view(), {.values = values.view(), .metadata = metadata.data()});
  expand24(values.view(), metadata.data(), again.view());
  EXPECT_EQ(all_bits(again), all_bits(w));
}

TYPED_TEST(Weight24Test, GroupsWithFewerThanTwoWeightsAreValid) {
  TestMatrix<TypeParam> w(1, 16), values(1, 8), again(1, 16);
  w.fill([] { return TypeParam{}; });
  w.at(0, 7) = from_float<TypeParam>(-3.0f);
  w.at(0, 8) = from_bits<TypeParam>(kSignBit<TypeParam>);
  std::uint16_t metadata = 0;
  compress_weight24(w.view(), {.values = values.view(), .metadata = &metadata});
  EXPECT_EQ(metadata, 0x44c4);  // the lowest channels fill up
  expand24(values.view(), &metadata, again.view());
  for (std::int64_t k = 0; k < 16; ++k) EXPECT_EQ(again.value(0, k), w.value(0, k));
}

TYPED_TEST(Weight24Test, AThirdWeightOfAGroupIsRefusedAndNamed) {
  auto w = pruned(normal_matrix<TypeParam>(3, 32, 53));
  for (int i = 0; i < 3; ++i) w.at(1, 20 + i) = from_float<TypeParam>(1.0f);
  w.at(1, 23) = TypeParam{};
  TestMatrix<TypeParam> values(3, 16);
  std::vector<std::uint16_t> metadata(6, 0xabcd);
  EXPECT_THAT(
      [&] { compress_weight24(w.view(), {.values = values.view(), .metadata = metadata.data()}); },
      ThrowsMessage<Error>("compress_weight24: required at most 2 of 4 weights that are not zero, "
                           "got 3 at row 1, group 5"));
  EXPECT_EQ(metadata, std::vector<std::uint16_t>(6, 0xabcd));
  EXPECT_EQ(all_bits(values), all_bits(TestMatrix<TypeParam>(3, 16)));
}

TYPED_TEST(Weight24Test, SmallIntegersAreExactInRaggedShapes) {
  for (const auto& [tokens, outputs, channels, rank] : {std::tuple<int, int, int, int>{1, 1, 16, 0},
                                                        {3, 65, 48, 0},
                                                        {5, 7, 16, 1},
                                                        {67, 3, 16, 2}}) {
    SparseLayer<TypeParam> layer{
        .x = integer_matrix<TypeParam>(tokens, channels, 54, 1),
        .low = integer_matrix<TypeParam>(tokens, rank, 55, 1),
        .product = {.weight = pruned(integer_matrix<TypeParam>(outputs, channels, 56, 2)),
                    .up = integer_matrix<TypeParam>(outputs, rank, 57, 1)}};
    const auto y = layer.run();
    const auto expected = in_double(layer);
    for (std::int64_t i = 0; i < tokens * outputs; ++i) {
      EXPECT_EQ(y.value(i / outputs, i % outputs), expected[static_cast<std::size_t>(i)].value);
    }
  }
}

TYPED_TEST(Weight24Test, EveryEpilogueIsRoundedOnce) {
  for (const bool gelu : {false, true}) {
    for (const int image_tokens : {0, 2}) {
      auto layer = random_layer<TypeParam>(5, 64, 7, 6);
      layer.product.up = normal_matrix<TypeParam>(7, 2, 58);
      layer.product.low_column = 3;
      layer.product.activation = gelu ? Activation::gelu : Activation::none;
      expect_rounded_once(layer.run(), in_double(layer));
      layer.product.image_tokens = image_tokens;
      layer.product.gate = normal_matrix<TypeParam>(image_tokens == 0 ? 1 : 3, 7, 59);
      expect_rounded_once(layer.run(), in_double(layer));
      layer.product.residual = normal_matrix<TypeParam>(5, 7, 60);
      layer.token_scale = {0.5f, 1.25f, 3.0f, 1e-3f, 7.0f};
      layer.output_scale = {1.5f, 0.1f, 1.0f, 9.0f, 2.0f, 0.7f, 1e-2f};
      expect_rounded_once(layer.run(), in_double(layer));
    }
  }
}

TYPED_TEST(Weight24Test, InputsOfDroppedWeightsAreNotRead) {
  auto layer = random_layer<TypeParam>(2, 16, 1, 0);
  const auto clean = layer.run();
  for (std::int64_t k = 0; k < 16; ++k) {
    if (layer.product.weight.value(0, k) != 0.0f) continue;
    layer.x.at(1, k) = from_float<TypeParam>(std::numeric_limits<float>::quiet_NaN());
  }
  EXPECT_EQ(all_bits(layer.run()), all_bits(clean));
}

TYPED_TEST(Weight24Test, ResidualMayBeY) {
  auto layer = random_layer<TypeParam>(3, 32, 5, 0);
  layer.product.residual = normal_matrix<TypeParam>(3, 5, 61);
  const auto apart = layer.run();
  CompressedMatrix<TypeParam> w(layer.product.weight);
  TestMatrix<TypeParam> y = layer.product.residual;
  const WeightProduct24 product{.values = w.values.view(),
                                .metadata = w.metadata.data(),
                                .bias = layer.product.bias.data(),
                                .residual = y.view(),
                                .y = y.view()};
  weight_product24({.x = layer.x.view()}, {&product, 1});
  EXPECT_EQ(all_bits(y), all_bits(apart));
}

/// Codes of an e4m3 layer; both scales and the low rank, in the unit of the codes.
TEST(Weight24E4m3, CodesScalesAndLowRankGiveTheFormula) {
  constexpr int kTokens = 3, kOutputs = 5, kChannels = 32, kRank = 2;
  SparseLayer<BFloat16> layer = random_layer<BFloat16>(kTokens, kChannels, kOutputs, kRank);
  layer.token_scale = {0.5f, 0.03f, 2.0f};
  layer.output_scale = {0.25f, 1.5f, 1.0f, 0.3f, 7.0f};
  std::vector<E4m3> x, w;
  const auto quantise = [](TestMatrix<BFloat16>& matrix, std::vector<E4m3>& codes) {
    matrix.fill([&, i = 0]() mutable {
      const BFloat16 value = matrix.at(i / matrix.columns, i % matrix.columns);
      ++i;
      codes.push_back(to_e4m3(16 * to_float(value)));
      return to_bfloat16(to_float(codes.back()));  // exact: 3 bits of 7
    });
  };
  quantise(layer.x, x);
  quantise(layer.product.weight, w);
  const auto matrix = [](std::vector<E4m3>& codes, std::int64_t rows) {
    return contiguous(static_cast<void*>(codes.data()), DType::e4m3, rows,
                      static_cast<std::int64_t>(codes.size()) / rows);
  };
  std::vector<E4m3> values(w.size() / 2);
  std::vector<std::uint16_t> metadata(w.size() / 16);
  compress_weight24(matrix(w, kOutputs),
                    {.values = matrix(values, kOutputs), .metadata = metadata.data()});
  TestMatrix<BFloat16> y(kTokens, kOutputs);
  const WeightProduct24 product{.values = matrix(values, kOutputs),
                                .metadata = metadata.data(),
                                .scale = layer.output_scale.data(),
                                .up = layer.product.up.view(),
                                .bias = layer.product.bias.data(),
                                .y = y.view()};
  weight_product24(
      {.x = matrix(x, kTokens), .scale = layer.token_scale.data(), .low = layer.low.view()},
      {&product, 1});
  expect_rounded_once(y, in_double(layer));

  // It is what the hardware's operand of 8-bit elements holds.
  std::vector<unsigned char> operand(
      static_cast<std::size_t>(operand24_bytes(kOutputs, kChannels, OperandWidth::k8)));
  std::vector<E4m3> values_again(values.size());
  std::vector<std::uint16_t> metadata_again(metadata.size());
  to_operand24(matrix(values, kOutputs), metadata.data(), operand.data());
  from_operand24(operand.data(), matrix(values_again, kOutputs), metadata_again.data());
  EXPECT_EQ(metadata_again, metadata);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), values_again.begin(),
                         [](E4m3 a, E4m3 b) { return a.bits == b.bits; }));
}

/// A call with every part, to break one rule of. Nothing is written by one that is refused.
class Weight24Errors : public ::testing::Test {
 protected:
  Weight24Errors() { restore(); }

  void restore() {
    input_ = {.x = x_.view(), .low = low_.view()};
    product_ = {.values = w_.values.view(),
                .metadata = w_.metadata.data(),
                .up = up_.view(),
                .bias = bias_.data(),
                .y = y_.view()};
  }

  void expect_refused(const std::string& required_and_got) {
    TestMatrix<float> y(3, 5);
    WeightProduct24 right = product_of(y);
    const WeightProduct24 products[] = {right, product_};
    EXPECT_THAT([&] { weight_product24(input_, products); },
                ThrowsMessage<Error>("weight_product24: " + required_and_got));
    EXPECT_EQ(all_bits(y), all_bits(TestMatrix<float>(3, 5)));
    EXPECT_EQ(all_bits(y_), all_bits(TestMatrix<float>(3, 5)));
    restore();
  }

  WeightProduct24 product_of(TestMatrix<float>& y) {
    return {.values = w_.values.view(), .metadata = w_.metadata.data(), .y = y.view()};
  }

  TestMatrix<float> x_ = normal_matrix<float>(3, 32, 62), low_ = normal_matrix<float>(3, 4, 63);
  CompressedMatrix<float> w_{normal_matrix<float>(5, 32, 64)};
  TestMatrix<float> up_ = normal_matrix<float>(5, 2, 65), y_{3, 5};
  std::vector<float> bias_ = normal_vector<float>(5, 66);
  DenseInput24 input_;
  WeightProduct24 product_;
};

TEST_F(Weight24Errors, NoneInAValidCall) {
  EXPECT_NO_THROW(weight_product24(input_, {&product_, 1}));
  EXPECT_NO_THROW(weight_product24(input_, {}));
}

TEST_F(Weight24Errors, OfTheWeight) {
  product_.values.columns = 8;
  expect_refused("required values [5, 16] f32, got values [5, 8] f32");
  product_.values.dtype = DType::f16;
  expect_refused("required values [5, 16] f32, got values [5, 16] f16");
  product_.metadata = nullptr;
  expect_refused("required data for metadata, got a null pointer with 10 elements");
  std::vector<std::uint16_t> wrong = w_.metadata;
  wrong[3] = static_cast<std::uint16_t>((wrong[3] & 0xff0fu) | 0x50u);
  product_.metadata = wrong.data();
  expect_refused("required nibbles 4, 8, C, 9, D or E, got 5 at row 1, group 5");
}

TEST_F(Weight24Errors, OfLowRankAndEpilogue) {
  product_.up.rows = 4;
  expect_refused("required up [5, 2] f32, got up [4, 2] f32");
  product_.low_column = 3;
  expect_refused("required columns of low inside its 4, got 2 from column 3");
  product_.bias_dtype = DType::f16;
  expect_refused("required a bias of f32 or f32, got f16");
  product_.y.rows = 2;
  expect_refused("required Y [3, 5] f32, got Y [2, 5] f32");
}

TEST_F(Weight24Errors, OfCompression) {
  Compressed24 out{.values = w_.values.view(), .metadata = w_.metadata.data()};
  const TestMatrix<float> w = pruned(normal_matrix<float>(5, 32, 64));
  const auto refused = [&](const std::string& message) {
    EXPECT_THAT([&] { compress_weight24(w.view(), out); },
                ThrowsMessage<Error>("compress_weight24: " + message));
    out = {.values = w_.values.view(), .metadata = w_.metadata.data()};
  };
  out.scale = w_.scale.data();
  refused("required no scale of a weight, got one");
  out.metadata = nullptr;
  refused("required data for metadata, got a null pointer with 10 elements");
  out.values.columns = 8;
  refused("required values [5, 16] f32, got values [5, 8] f32");
}

}  // namespace
}  // namespace rtlynx
