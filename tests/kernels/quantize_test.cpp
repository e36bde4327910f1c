// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "kernels/test_matrix.h"
#include "rtlynx/rows.h"

namespace rtlynx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename T>
class QuantizeTest : public ::testing::Test {};
TYPED_TEST_SUITE(QuantizeTest, ElementTypes);

/// Codes and units of x by the specification.
template <typename T>
struct Quantized {
  explicit Quantized(const TestMatrix<T>& x)
      : codes(static_cast<std::size_t>(x.rows * x.columns)),
        units(static_cast<std::size_t>(x.rows)) {
    quantize({.x = x.view(),
              .codes = contiguous(static_cast<void*>(codes.data()), DType::e4m3, x.rows, x.columns),
              .unit = units.data()});
  }
  std::vector<E4m3> codes;
  std::vector<float> units;
};

// Half a step of e4m3: 2^-4 of a normal code, 2^-10 below 2^-6.
TYPED_TEST(QuantizeTest, RowsLieWithinHalfAStep) {
  const auto x = normal_matrix<TypeParam>(7, 48, 3, 3.0f);
  const Quantized<TypeParam> quantized(x);
  for (std::int64_t m = 0; m < x.rows; ++m) {
    const double unit = quantized.units[static_cast<std::size_t>(m)];
    double largest = 0.0;
    for (std::int64_t k = 0; k < x.columns; ++k) {
      const double value = x.value(m, k);
      const double code = to_float(quantized.codes[static_cast<std::size_t>(m * x.columns + k)]);
      const double step = std::max(std::fabs(value / unit) / 16, 0x1p-10);
      EXPECT_LE(std::fabs(code - value / unit), step * 1.0001) << m << ", " << k;
      largest = std::max(largest, std::fabs(code));
    }
    EXPECT_EQ(largest, 448.0);
  }
}

TYPED_TEST(QuantizeTest, RowsOfZerosTinyAndNotFiniteNumbers) {
  TestMatrix<TypeParam> x(4, 16);
  x.fill([] { return TypeParam{}; });
  x.at(1, 3) = from_bits<TypeParam>(1);  // the smallest
  x.at(2, 5) = from_float<TypeParam>(kNan);
  x.at(2, 6) = from_float<TypeParam>(2.0f);
  x.at(2, 7) = from_bits<TypeParam>(kInfinityBits<TypeParam> + 1);  // a signalling NaN
  x.at(3, 0) = from_float<TypeParam>(kInfinity);
  x.at(3, 1) = from_float<TypeParam>(1.0f);
  const Quantized<TypeParam> quantized(x);
  const auto code = [&](std::size_t m, std::size_t k) {
    return to_float(quantized.codes[m * 16 + k]);
  };
  EXPECT_EQ(quantized.units[0], 1.0f);
  EXPECT_EQ(code(0, 0), 0.0f);
  EXPECT_GE(quantized.units[1], 0x1p-126f);
  EXPECT_TRUE(std::isfinite(code(1, 3)));
  EXPECT_EQ(quantized.units[2], 2.0f / 448.0f);
  EXPECT_TRUE(std::isnan(code(2, 5)));
  EXPECT_EQ(code(2, 6), 448.0f);
  EXPECT_TRUE(std::isinf(quantized.units[3]));
  EXPECT_TRUE(std::isnan(code(3, 0)));
  EXPECT_EQ(code(3, 1), 0.0f);
}

}  // namespace
}  // namespace rtlynx
