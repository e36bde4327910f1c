// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/linear24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "kernels/naive_select.h"
#include "kernels/test_matrix.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

// A layer with its operands. Rank 0 and no bias unless given.
template <typename T>
struct TestLayer {
  TestMatrix<T> x;
  TestMatrix<T> weight;
  TestMatrix<T> down{0, 0};
  TestMatrix<T> up{0, 0};
  std::vector<float> bias = {};
  bool norm = true;

  Linear24 arguments() const {
    return {.x = x.view(),
            .weight = weight.view(),
            .down = down.view(),
            .up = up.view(),
            .bias = bias.empty() ? nullptr : bias.data(),
            .norm = norm};
  }

  template <typename Out>
  TestMatrix<Out> run() const {
    TestMatrix<Out> y(x.rows, weight.rows);
    linear24(arguments(), y.view());
    EXPECT_TRUE(y.gaps_untouched());
    return y;
  }
};

template <typename T>
TestLayer<T> random_layer(std::int64_t tokens, std::int64_t channels, std::int64_t outputs,
                          std::int64_t rank) {
  const auto spread = [](std::int64_t terms) {
    return 1.0f / std::sqrt(static_cast<float>(std::max<std::int64_t>(terms, 1)));
  };
  TestLayer<T> layer{.x = normal_matrix<T>(tokens, channels, 31),
                     .weight = normal_matrix<T>(outputs, channels, 32, spread(channels)),
                     .down = normal_matrix<T>(rank, channels, 33, spread(channels)),
                     .up = normal_matrix<T>(outputs, rank, 34, spread(rank))};
  const auto bias = normal_matrix<float>(1, outputs, 35);
  for (std::int64_t n = 0; n < outputs; ++n) layer.bias.push_back(bias.at(0, n));
  return layer;
}

template <typename T>
std::vector<double> widened(const TestMatrix<T>& matrix, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t k = 0; k < matrix.columns; ++k) values.push_back(matrix.value(row, k));
  return values;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// The formula in double, without any rounding: dense (x~ = x, s = 1) or sparse.
template <typename T>
std::vector<double> in_double(const TestLayer<T>& layer, bool sparse) {
  std::vector<double> y;
  for (std::int64_t m = 0; m < layer.x.rows; ++m) {
    const std::vector<double> x = widened(layer.x, m);
    std::vector<double> kept = x;
    for (std::size_t k = 0; sparse && k < kept.size(); ++k) {
      const auto stays = naive_select(layer.x.row(m) + k / 4 * 4);
      if (!stays[k % 4]) kept[k] = 0.0;
    }
    const double s = layer.norm ? std::sqrt(dot(x, x) / dot(kept, kept)) : 1.0;
    std::vector<double> low;
    for (std::int64_t r = 0; r < layer.down.rows; ++r) {
      low.push_back(dot(x, widened(layer.down, r)) / s);
    }
    for (std::int64_t n = 0; n < layer.weight.rows; ++n) {
      const double acc = dot(kept, widened(layer.weight, n)) + dot(low, widened(layer.up, n));
      y.push_back(s * acc + (layer.bias.empty() ? 0.0 : layer.bias[static_cast<std::size_t>(n)]));
    }
  }
  return y;
}

// The dense layer with a low-rank branch in the arithmetic that a dense kernel of this type has:
// fp32 sums, the branch's intermediate and the result rounded once.
template <typename T>
std::vector<double> dense_in_same_precision(const TestLayer<T>& layer) {
  const auto sum = [](const auto& a, std::int64_t i, const auto& b, std::int64_t j) {
    float total = 0.0f;
    for (std::int64_t k = 0; k < a.columns; ++k) total += a.value(i, k) * b.value(j, k);
    return total;
  };
  const std::int64_t rank = layer.down.rows;
  std::vector<double> y;
  for (std::int64_t m = 0; m < layer.x.rows; ++m) {
    TestMatrix<T> low(1, rank);
    for (std::int64_t r = 0; r < rank; ++r) {
      low.at(0, r) = from_float<T>(sum(layer.x, m, layer.down, r));
    }
    for (std::int64_t n = 0; n < layer.weight.rows; ++n) {
      const float acc = sum(layer.x, m, layer.weight, n) + sum(low, 0, layer.up, n);
      y.push_back(to_float(from_float<T>(acc + layer.bias[static_cast<std::size_t>(n)])));
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
class Linear24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Linear24Test, ElementTypes);

TYPED_TEST(Linear24Test, ErrorIsThatOfDenseArithmetic) {
  for (const std::int64_t rank : {0, 16}) {
    const auto layer = random_layer<TypeParam>(13, 256, 37, rank);
    const double baseline = distance(dense_in_same_precision(layer), in_double(layer, false));
    const double error =
        distance(values_of(layer.template run<TypeParam>()), in_double(layer, true));
    EXPECT_GT(baseline, 0.0);
    EXPECT_LE(error, 2 * baseline) << "rank " << rank;
  }
}

// Without the norm every step on small integers is exact, in all types.
TYPED_TEST(Linear24Test, SmallIntegersAreExact) {
  for (const auto& [tokens, outputs, rank] :
       {std::tuple<int, int, int>{1, 1, 0}, {3, 5, 0}, {5, 7, 1}, {4, 3, 2}}) {
    TestLayer<TypeParam> layer{.x = integer_matrix<TypeParam>(tokens, 12, 41, 4),
                               .weight = integer_matrix<TypeParam>(outputs, 12, 42, 4),
                               .down = integer_matrix<TypeParam>(rank, 12, 43, 2),
                               .up = integer_matrix<TypeParam>(outputs, rank, 44, 2),
                               .norm = false};
    for (int n = 0; n < outputs; ++n) layer.bias.push_back(static_cast<float>(n - 2));
    EXPECT_EQ(values_of(layer.template run<float>()), in_double(layer, true));
  }
}

TYPED_TEST(Linear24Test, IdentityWeightGivesTheKeptChannels) {
  TestLayer<TypeParam> layer{.x = normal_matrix<TypeParam>(6, 32, 45),
                             .weight = TestMatrix<TypeParam>(32, 32),
                             .norm = false};
  std::int64_t index = 0;
  layer.weight.fill([&] { return from_float<TypeParam>(index++ % 33 == 0 ? 1.0f : 0.0f); });
  const PackedMatrix<TypeParam> packed(layer.x);
  TestMatrix<TypeParam> kept(6, 32);
  unpack24(packed.values.view(), packed.metadata.data(), kept.view());
  EXPECT_EQ(values_of(layer.template run<TypeParam>()), values_of(kept));

  layer.norm = true;
  const auto y = layer.template run<float>();
  for (std::int64_t m = 0; m < 6; ++m) {
    for (std::int64_t k = 0; k < 32; ++k) {
      EXPECT_EQ(y.at(m, k), packed.scale[static_cast<std::size_t>(m)] * kept.value(m, k));
    }
  }
}

// A token [1, 1, 1, 1] has s = sqrt 2 and keeps channels 0 and 1.
template <typename T>
TestLayer<T> layer_of_ones(float weight) {
  TestLayer<T> layer{.x = TestMatrix<T>(1, 4), .weight = TestMatrix<T>(1, 4)};
  layer.x.fill([] { return from_float<T>(1.0f); });
  layer.weight.fill([&] { return from_float<T>(weight); });
  return layer;
}

TYPED_TEST(Linear24Test, LowRankTermIsDividedThenRoundedOnce) {
  auto layer = layer_of_ones<TypeParam>(0.0f);
  layer.down = TestMatrix<TypeParam>(1, 4);
  layer.down.fill([] { return TypeParam{}; });
  layer.down.at(0, 0) = from_float<TypeParam>(2048.0f);
  layer.down.at(0, 1) = from_float<TypeParam>(7.0f);  // H = 2055, which rounding H would change
  layer.up = TestMatrix<TypeParam>(1, 1);
  layer.up.at(0, 0) = from_float<TypeParam>(1.0f);
  const float s = std::sqrt(2.0f);
  const float low = to_float(from_float<TypeParam>(2055.0f / s));
  EXPECT_EQ(layer.template run<float>().at(0, 0), s * low);
}

TYPED_TEST(Linear24Test, BiasIsFp32AndJoinsInOneFusedStep) {
  auto layer = layer_of_ones<TypeParam>(1.5f);  // acc = 3
  const float s = std::sqrt(2.0f);
  layer.bias = {-s * 3.0f};  // what is left is the rounding error of the product
  const float expected = std::fma(s, 3.0f, layer.bias[0]);
  ASSERT_NE(expected, 0.0f);
  EXPECT_EQ(layer.template run<float>().at(0, 0), expected);
}

TYPED_TEST(Linear24Test, ResultIsRoundedToTheTypeOfY) {
  const auto layer = random_layer<TypeParam>(3, 64, 5, 4);
  const auto y = layer.template run<float>();
  const auto half = layer.template run<Half>();
  const auto bfloat16 = layer.template run<BFloat16>();
  for (std::int64_t m = 0; m < 3; ++m) {
    for (std::int64_t n = 0; n < 5; ++n) {
      EXPECT_EQ(bits_of(half.at(m, n)), bits_of(to_half(y.at(m, n))));
      EXPECT_EQ(bits_of(bfloat16.at(m, n)), bits_of(to_bfloat16(y.at(m, n))));
    }
  }
}

// Sparse Tensor Cores never multiply a dropped channel, so neither does the specification.
TYPED_TEST(Linear24Test, WeightsOfDroppedChannelsAreNotRead) {
  auto layer = layer_of_ones<TypeParam>(1.0f);
  layer.norm = false;
  layer.weight.at(0, 2) = from_bits<TypeParam>(kInfinityBits<TypeParam>);
  layer.weight.at(0, 3) = from_bits<TypeParam>(kInfinityBits<TypeParam> + 1);
  EXPECT_EQ(layer.template run<float>().at(0, 0), 2.0f);
}

TYPED_TEST(Linear24Test, NanStaysInItsToken) {
  auto layer = random_layer<TypeParam>(3, 64, 5, 4);
  const auto clean = layer.template run<TypeParam>();
  layer.x.at(1, 17) = from_float<TypeParam>(std::numeric_limits<float>::quiet_NaN());
  const auto y = layer.template run<TypeParam>();
  for (std::int64_t n = 0; n < 5; ++n) {
    EXPECT_EQ(bits_of(y.at(0, n)), bits_of(clean.at(0, n)));
    EXPECT_TRUE(std::isnan(y.value(1, n)));
    EXPECT_EQ(bits_of(y.at(2, n)), bits_of(clean.at(2, n)));
  }
}

TYPED_TEST(Linear24Test, ZeroTokenGivesTheBias) {
  auto layer = random_layer<TypeParam>(2, 64, 5, 4);
  layer.x.fill([] { return TypeParam{}; });
  const auto y = layer.template run<float>();
  for (std::size_t n = 0; n < 5; ++n) {
    EXPECT_EQ(y.at(1, static_cast<std::int64_t>(n)), layer.bias[n]);
  }
}

class Linear24Errors : public ::testing::Test {
 protected:
  auto call() {
    return [this] { linear24(layer_.arguments(), y_.view()); };
  }

  TestLayer<float> layer_ = random_layer<float>(2, 8, 3, 1);
  TestMatrix<float> y_{2, 3};
};

TEST_F(Linear24Errors, NoneInAValidCall) { EXPECT_NO_THROW(call()()); }

TEST_F(Linear24Errors, ChannelsNotDivisibleBy4) {
  layer_.x = TestMatrix<float>(2, 6);
  EXPECT_THAT(call(), ThrowsMessage<Error>("linear24: required channels divisible by 4, got 6"));
}

TEST_F(Linear24Errors, ShapesThatDisagree) {
  const TestLayer<float> good = layer_;
  layer_.weight = TestMatrix<float>(3, 12);
  EXPECT_THAT(call(), ThrowsMessage<Error>("linear24: required weight [3, 8] f32, "
                                           "got weight [3, 12] f32"));
  layer_ = good;
  layer_.down = TestMatrix<float>(1, 4);
  EXPECT_THAT(call(),
              ThrowsMessage<Error>("linear24: required down [1, 8] f32, got down [1, 4] f32"));
  layer_ = good;
  layer_.up = TestMatrix<float>(1, 3);
  EXPECT_THAT(call(), ThrowsMessage<Error>("linear24: required up [3, 1] f32, got up [1, 3] f32"));
  layer_ = good;
  layer_.down = TestMatrix<float>(0, 8);
  EXPECT_THAT(call(), ThrowsMessage<Error>("linear24: required up of rank 0, as down has no rows, "
                                           "got up [3, 1] f32"));
  layer_ = good;
  y_ = TestMatrix<float>(2, 4);
  EXPECT_THAT(call(), ThrowsMessage<Error>("linear24: required Y [2, 3] f32, got Y [2, 4] f32"));
}

TEST_F(Linear24Errors, TypesThatDisagree) {
  const TestMatrix<Half> weight(3, 8);
  Linear24 layer = layer_.arguments();
  layer.weight = weight.view();
  EXPECT_THAT([&] { linear24(layer, y_.view()); },
              ThrowsMessage<Error>("linear24: required weight [3, 8] f32, got weight [3, 8] f16"));
}

}  // namespace
}  // namespace rtlynx
