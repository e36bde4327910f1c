// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/product24.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "kernels/in_double.h"
#include "kernels/naive_select.h"
#include "kernels/test_product.h"

namespace rtlynx {
namespace {

/// An input and a weight that reads it: a Linear.
template <typename T>
struct TestLayer {
  TestInput<T> input;
  TestProduct<T> product;

  TestMatrix<T> run() const {
    TestPacked<T> packed(input);
    return product.run(packed);
  }
};

template <typename T>
TestLayer<T> random_layer(std::int64_t tokens, std::int64_t channels, std::int64_t outputs,
                          std::int64_t rank) {
  return {.input = {.x = normal_matrix<T>(tokens, channels, 30),
                    .down = normal_matrix<T>(rank, channels, 31, spread(channels))},
          .product = random_product<T>(outputs, channels, rank)};
}

/// x~: the channels that stay.
template <typename T>
std::vector<double> kept_of(const TestMatrix<T>& x, std::int64_t m) {
  std::vector<double> kept = widened(x, m);
  for (std::size_t k = 0; k < kept.size(); ++k) {
    if (!naive_select(x.row(m) + k / 4 * 4)[k % 4]) kept[k] = 0.0;
  }
  return kept;
}

/// The formula in double, without any rounding: dense (x~ = x, s = 1) or sparse. Without
/// activation, gate and residual.
template <typename T>
std::vector<double> in_double(const TestLayer<T>& layer, bool sparse) {
  const auto& [input, product] = layer;
  std::vector<double> y;
  for (std::int64_t m = 0; m < input.x.rows; ++m) {
    const std::vector<double> x = widened(input.x, m), kept = sparse ? kept_of(input.x, m) : x;
    const double s = input.restores_norm ? std::sqrt(dot(x, x) / dot(kept, kept)) : 1.0;
    std::vector<double> low;
    for (std::int64_t r = 0; r < input.down.rows; ++r) {
      low.push_back(dot(x, widened(input.down, r)) / s);
    }
    for (std::int64_t n = 0; n < product.weight.rows; ++n) {
      const double acc = dot(kept, widened(product.weight, n)) + dot(low, widened(product.up, n));
      y.push_back(s * acc + product.bias[static_cast<std::size_t>(n)]);
    }
  }
  return y;
}

/// The dense layer with a low-rank branch in the arithmetic that a dense kernel of this type has:
/// fp32 sums, the branch's intermediate and the result rounded once.
template <typename T>
std::vector<double> dense_in_same_precision(const TestLayer<T>& layer) {
  const auto& [input, product] = layer;
  const auto sum = [](const auto& a, std::int64_t i, const auto& b, std::int64_t j) {
    float total = 0.0f;
    for (std::int64_t k = 0; k < a.columns; ++k) total += a.value(i, k) * b.value(j, k);
    return total;
  };
  std::vector<double> y;
  for (std::int64_t m = 0; m < input.x.rows; ++m) {
    TestMatrix<T> low(1, input.down.rows);
    for (std::int64_t r = 0; r < low.columns; ++r) {
      low.at(0, r) = from_float<T>(sum(input.x, m, input.down, r));
    }
    for (std::int64_t n = 0; n < product.weight.rows; ++n) {
      const float acc = sum(input.x, m, product.weight, n) + sum(low, 0, product.up, n);
      y.push_back(to_float(from_float<T>(acc + product.bias[static_cast<std::size_t>(n)])));
    }
  }
  return y;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

template <typename T>
std::vector<double> values_of(const TestMatrix<T>& matrix) {
  std::vector<double> values;
  for (std::int64_t m = 0; m < matrix.rows; ++m) {
    const std::vector<double> row = widened(matrix, m);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

template <typename T>
class Product24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Product24Test, ElementTypes);

TYPED_TEST(Product24Test, ErrorIsThatOfDenseArithmetic) {
  for (const std::int64_t rank : {0, 16}) {
    const auto layer = random_layer<TypeParam>(13, 256, 37, rank);
    const double baseline = distance(dense_in_same_precision(layer), in_double(layer, false));
    const double error = distance(values_of(layer.run()), in_double(layer, true));
    EXPECT_GT(baseline, 0.0);
    EXPECT_LE(error, 2 * baseline) << "rank " << rank;
  }
}

// Without the norm every step on small integers is exact: in all types, as long as Y has the bits.
TYPED_TEST(Product24Test, SmallIntegersAreExact) {
  for (const auto& [tokens, outputs, rank] :
       {std::tuple<int, int, int>{1, 1, 0}, {3, 5, 0}, {5, 7, 1}, {4, 3, 2}}) {
    TestLayer<TypeParam> layer{.input = {.x = integer_matrix<TypeParam>(tokens, 16, 41, 3),
                                         .restores_norm = false,
                                         .down = integer_matrix<TypeParam>(rank, 16, 42, 1)},
                               .product = {.weight = integer_matrix<TypeParam>(outputs, 16, 43, 3),
                                           .up = integer_matrix<TypeParam>(outputs, rank, 44, 1)}};
    for (int n = 0; n < outputs; ++n) layer.product.bias.push_back(static_cast<float>(n - 2));
    EXPECT_EQ(values_of(layer.run()), in_double(layer, true));
  }
}

TYPED_TEST(Product24Test, IdentityWeightGivesTheKeptChannels) {
  TestLayer<TypeParam> layer{
      .input = {.x = normal_matrix<TypeParam>(6, 32, 45), .restores_norm = false},
      .product = {.weight = TestMatrix<TypeParam>(32, 32)}};
  std::int64_t index = 0;
  layer.product.weight.fill([&] { return from_float<TypeParam>(index++ % 33 == 0 ? 1.0f : 0.0f); });
  const CompressedMatrix<TypeParam> compressed(layer.input.x);
  TestMatrix<TypeParam> kept(6, 32);
  expand24(compressed.values.view(), compressed.metadata.data(), kept.view());
  EXPECT_EQ(values_of(layer.run()), values_of(kept));

  layer.input.restores_norm = true;
  const auto y = layer.run();
  for (std::int64_t m = 0; m < 6; ++m) {
    const float s = compressed.scale[static_cast<std::size_t>(m)];
    for (std::int64_t k = 0; k < 32; ++k) {
      EXPECT_EQ(y.value(m, k), to_float(from_float<TypeParam>(s * kept.value(m, k))));
    }
  }
}

/// A token [1, 1, ...] has s = sqrt 2 and keeps channels 0 and 1 of every four.
template <typename T>
TestLayer<T> layer_of_ones(float weight) {
  TestLayer<T> layer{.input = {.x = TestMatrix<T>(1, 16)},
                     .product = {.weight = TestMatrix<T>(1, 16)}};
  layer.input.x.fill([] { return from_float<T>(1.0f); });
  layer.product.weight.fill([&] { return from_float<T>(weight); });
  return layer;
}

TYPED_TEST(Product24Test, LowIsDividedThenRoundedOnceAndTimesUpTimesS) {
  auto layer = layer_of_ones<TypeParam>(0.0f);
  layer.input.down = TestMatrix<TypeParam>(1, 16);
  layer.input.down.fill([] { return TypeParam{}; });
  layer.input.down.at(0, 0) = from_float<TypeParam>(2048.0f);
  layer.input.down.at(0, 1) = from_float<TypeParam>(7.0f);  // H = 2055, which rounding would change
  layer.product.up = TestMatrix<TypeParam>(1, 1);
  layer.product.up.at(0, 0) = from_float<TypeParam>(3.0f);
  const float s = std::sqrt(2.0f);
  const float low = to_float(from_float<TypeParam>(2055.0f / s));
  EXPECT_EQ(layer.run().value(0, 0), to_float(from_float<TypeParam>(s * (low * 3.0f))));
}

TYPED_TEST(Product24Test, BiasJoinsInOneFusedStep) {
  auto layer = layer_of_ones<TypeParam>(1.5f);  // acc = 12
  const float s = std::sqrt(2.0f);
  layer.product.bias = {-s * 12.0f};  // what is left is the rounding error of the product
  const float expected = to_float(from_float<TypeParam>(std::fma(s, 12.0f, layer.product.bias[0])));
  ASSERT_NE(expected, 0.0f);
  EXPECT_EQ(layer.run().value(0, 0), expected);
}

TYPED_TEST(Product24Test, BiasIsOfFp32OrOfTheElementType) {
  auto layer = random_layer<TypeParam>(3, 64, 5, 0);
  for (float& bias : layer.product.bias) {
    layer.product.element_bias.push_back(from_float<TypeParam>(bias));
    bias = to_float(layer.product.element_bias.back());
  }
  const auto of_elements = layer.run();
  layer.product.element_bias.clear();
  EXPECT_EQ(all_bits(of_elements), all_bits(layer.run()));
}

// An fp32 layer of the same elements gives what is rounded.
TYPED_TEST(Product24Test, ResultIsRoundedOnce) {
  const auto widen = [](const TestMatrix<TypeParam>& matrix) {
    TestMatrix<float> wide(matrix.rows, matrix.columns);
    for (std::int64_t m = 0; m < wide.rows; ++m) {
      for (std::int64_t k = 0; k < wide.columns; ++k) wide.at(m, k) = matrix.value(m, k);
    }
    return wide;
  };
  auto product = random_product<TypeParam>(5, 64, 4);
  product.activation = Activation::gelu;
  product.gate = normal_matrix<TypeParam>(1, 5, 46);
  product.residual = normal_matrix<TypeParam>(3, 5, 47);
  TestPacked<TypeParam> packed(TestInput<TypeParam>{
      .x = normal_matrix<TypeParam>(3, 64, 48), .down = normal_matrix<TypeParam>(4, 64, 49, 0.1f)});
  TestPacked<float> wide(3, 64, 4);
  wide.values = widen(packed.values);
  wide.metadata = packed.metadata;
  wide.scale = packed.scale;
  wide.low = widen(packed.low);
  const TestProduct<float> wide_product{.weight = widen(product.weight),
                                        .up = widen(product.up),
                                        .bias = product.bias,
                                        .activation = product.activation,
                                        .gate = widen(product.gate),
                                        .residual = widen(product.residual)};
  const auto y = product.run(packed);
  const auto wide_y = wide_product.run(wide);
  for (std::int64_t m = 0; m < 3; ++m) {
    for (std::int64_t n = 0; n < 5; ++n) {
      EXPECT_EQ(bits_of(y.at(m, n)), bits_of(from_float<TypeParam>(wide_y.at(m, n))));
    }
  }
}

// Sparse Tensor Cores never multiply a dropped channel, so neither does the specification.
TYPED_TEST(Product24Test, WeightsOfDroppedChannelsAreNotRead) {
  auto layer = layer_of_ones<TypeParam>(1.0f);
  layer.input.restores_norm = false;
  layer.product.weight.at(0, 2) = from_bits<TypeParam>(kInfinityBits<TypeParam>);
  layer.product.weight.at(0, 15) = from_bits<TypeParam>(kInfinityBits<TypeParam> + 1);
  EXPECT_EQ(layer.run().value(0, 0), 8.0f);
}

TYPED_TEST(Product24Test, NanStaysInItsToken) {
  auto layer = random_layer<TypeParam>(3, 64, 5, 4);
  const auto clean = layer.run();
  layer.input.x.at(1, 17) = from_float<TypeParam>(std::numeric_limits<float>::quiet_NaN());
  const auto y = layer.run();
  for (std::int64_t n = 0; n < 5; ++n) {
    EXPECT_EQ(bits_of(y.at(0, n)), bits_of(clean.at(0, n)));
    EXPECT_TRUE(std::isnan(y.value(1, n)));
    EXPECT_EQ(bits_of(y.at(2, n)), bits_of(clean.at(2, n)));
  }
}

TYPED_TEST(Product24Test, ZeroTokenGivesTheBias) {
  auto layer = random_layer<TypeParam>(2, 64, 5, 4);
  layer.input.x.fill([] { return TypeParam{}; });
  const auto y = layer.run();
  for (std::size_t n = 0; n < 5; ++n) {
    EXPECT_EQ(y.value(1, static_cast<std::int64_t>(n)),
              to_float(from_float<TypeParam>(layer.product.bias[n])));
  }
}

/// residual + gate * act(s * acc + bias) of what precedes the activation, which is given.
template <typename T>
void expect_epilogue(const TestProduct<T>& product, const std::vector<double>& sums,
                     const TestMatrix<T>& y) {
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < y.rows; ++m) {
    const std::int64_t image = product.image_tokens == 0 ? 0 : m / product.image_tokens;
    for (std::int64_t n = 0; n < y.columns; ++n) {
      // A random sum of 64 products, of which none is far above 1: 64 roundings of that size.
      Expected e{sums[static_cast<std::size_t>(m * y.columns + n)], 64 * kFp32};
      if (product.activation == Activation::gelu) {
        const double slope = 1.2 * e.slack;  // GELU rises by no more
        e = gelu_in_double(e.value);
        e.slack += slope;
      }
      if (product.gate.rows > 0) {
        const double gate = product.gate.value(image, n);
        e = {e.value * gate, (e.slack + kFp32 * std::fabs(e.value)) * std::fabs(gate)};
      }
      if (product.residual.rows > 0) {
        e.value += product.residual.value(m, n);
        e.slack += kFp32 * std::fabs(e.value);
      }
      expected.push_back(e);
    }
  }
  expect_rounded_once(y, expected);
}

TYPED_TEST(Product24Test, ActivationGateAndResidualFollowInThisOrder) {
  auto layer = random_layer<TypeParam>(5, 64, 7, 0);
  const std::vector<double> sums = in_double(layer, true);
  for (const auto& [image_tokens, images] : {std::pair<int, int>{0, 1}, {2, 3}, {1, 5}, {9, 1}}) {
    for (int parts = 0; parts < 8; ++parts) {  // every choice of what is there
      SCOPED_TRACE(std::to_string(image_tokens) + " tokens an image, parts " +
                   std::to_string(parts));
      auto& product = layer.product;
      product.activation = parts & 1 ? Activation::gelu : Activation::none;
      product.image_tokens = image_tokens;
      product.gate = normal_matrix<TypeParam>(parts & 2 ? images : 0, 7, 50);
      product.residual = normal_matrix<TypeParam>(parts & 4 ? 5 : 0, 7, 51);
      expect_epilogue(product, sums, layer.run());
    }
  }
}

TYPED_TEST(Product24Test, TheResidualMayBeTheResult) {
  auto product = random_product<TypeParam>(5, 64, 0);
  product.residual = normal_matrix<TypeParam>(3, 5, 52);
  TestPacked<TypeParam> packed(TestInput<TypeParam>{.x = normal_matrix<TypeParam>(3, 64, 53)});
  const auto expected = product.run(packed);
  TestMatrix<TypeParam> in_place = product.residual;
  Product24 arguments = product.arguments(in_place);
  arguments.residual = in_place.view();
  product24(packed.arguments(), {&arguments, 1});
  EXPECT_EQ(all_bits(in_place), all_bits(expected));
}

// Columns of low of one's own, or the same for all: a joint low rank.
TYPED_TEST(Product24Test, SeveralProductsAreEachAsIfAlone) {
  TestPacked<TypeParam> packed(TestInput<TypeParam>{
      .x = normal_matrix<TypeParam>(4, 64, 54), .down = normal_matrix<TypeParam>(6, 64, 55, 0.1f)});
  std::vector<TestProduct<TypeParam>> products = {random_product<TypeParam>(5, 64, 2, 60),
                                                  random_product<TypeParam>(3, 64, 2, 70),
                                                  random_product<TypeParam>(8, 64, 2, 80)};
  products[0].activation = Activation::gelu;
  products[1].residual = normal_matrix<TypeParam>(4, 3, 56);
  for (const std::int64_t columns_apart : {0, 2}) {
    std::vector<TestMatrix<TypeParam>> results;
    for (const auto& product : products) results.emplace_back(4, product.weight.rows);
    std::vector<Product24> arguments;
    for (std::size_t i = 0; i < products.size(); ++i) {
      products[i].low_column = static_cast<std::int64_t>(i) * columns_apart;
      arguments.push_back(products[i].arguments(results[i]));
    }
    product24(packed.arguments(), arguments);
    for (std::size_t i = 0; i < products.size(); ++i) {
      EXPECT_EQ(all_bits(results[i]), all_bits(products[i].run(packed))) << "product " << i;
    }
  }
}

// The columns of low are those that `low_column` names, and no others.
TYPED_TEST(Product24Test, LowColumnNamesTheFirst) {
  TestPacked<TypeParam> packed(TestInput<TypeParam>{.x = normal_matrix<TypeParam>(4, 64, 57),
                                                    .down = TestMatrix<TypeParam>(6, 64)});
  packed.low = normal_matrix<TypeParam>(4, 6, 58);
  auto product = random_product<TypeParam>(5, 64, 3);
  product.low_column = 2;
  const auto y = product.run(packed);
  TestPacked<TypeParam> own(4, 64, 3);
  own.values = packed.values;
  own.metadata = packed.metadata;
  own.scale = packed.scale;
  for (std::int64_t m = 0; m < 4; ++m) {
    for (std::int64_t r = 0; r < 3; ++r) own.low.at(m, r) = packed.low.at(m, 2 + r);
  }
  product.low_column = 0;
  EXPECT_EQ(all_bits(y), all_bits(product.run(own)));
}

}  // namespace
}  // namespace rtlynx
