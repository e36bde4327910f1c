// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/naive_select.h"
#include "kernels/test_matrix.h"
#include "rtlynx/compress24.h"

// The scale of compress24 and of sparsify24, which share a definition but not their loops.
namespace rtlynx {
namespace {

using ::testing::Each;

enum class Path { kCompress, kSparsify };

template <typename T>
std::vector<float> scales(Path path, const TestMatrix<T>& x) {
  if (path == Path::kCompress) return CompressedMatrix<T>(x).scale;
  TestMatrix<T> kept(x.rows, x.columns);
  std::vector<float> scale(static_cast<std::size_t>(x.rows));
  sparsify24(x.view(), kept.view(), scale.data());
  return scale;
}

// ||x|| / ||x~|| by its definition. Doubles neither overflow nor vanish here.
template <typename T>
double true_scale(const TestMatrix<T>& x, std::int64_t m) {
  double kept = 0.0;
  double all = 0.0;
  for (std::int64_t k = 0; k < x.columns; k += 4) {
    const auto stays = naive_select(&x.at(m, k));
    for (int i = 0; i < 4; ++i) {
      const double value = x.value(m, k + i);
      all += value * value;
      if (stays[static_cast<std::size_t>(i)]) kept += value * value;
    }
  }
  return std::sqrt(all / kept);
}

// First-order bound of fp32 arithmetic: a sum has at most K additions and a few other operations
// around it, each off by 2^-24; two such sums and d / (k + d) <= 1/2 cancel, the root halves it.
double tolerance(std::int64_t channels) { return (static_cast<double>(channels) + 16) * 0x1p-25; }

template <typename T>
void expect_true_scales(const TestMatrix<T>& x) {
  for (const Path path : {Path::kCompress, Path::kSparsify}) {
    const std::vector<float> scale = scales(path, x);
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const double expected = true_scale(x, m);
      ASSERT_NEAR(scale[static_cast<std::size_t>(m)], expected, expected * tolerance(x.columns))
          << "row " << m << ", path " << static_cast<int>(path);
    }
  }
}

template <typename T>
class Scale24Test : public ::testing::Test {
 protected:
  static TestMatrix<T> row(const std::vector<float>& values) {
    TestMatrix<T> x(1, 16);
    std::size_t index = 0;
    x.fill([&] { return from_float<T>(values[index++ % values.size()]); });
    return x;
  }

  static void expect_exactly(float expected, const TestMatrix<T>& x) {
    EXPECT_THAT(scales(Path::kCompress, x), Each(expected));
    EXPECT_THAT(scales(Path::kSparsify, x), Each(expected));
  }
};
TYPED_TEST_SUITE(Scale24Test, ElementTypes);

TYPED_TEST(Scale24Test, KnownValues) {
  this->expect_exactly(std::sqrt(2.0f), this->row({1, -1, 1, 1}));
  this->expect_exactly(std::sqrt(1.25f), this->row({2, 1, -2, -1}));
}

TYPED_TEST(Scale24Test, OneWhereNothingIsLost) {
  this->expect_exactly(1.0f, this->row({0, 3, 0, -5}));
  this->expect_exactly(1.0f, this->row({0, -0.0f}));
}

TYPED_TEST(Scale24Test, OneForTokensThatAreNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value : {infinity, -infinity, nan}) {
    this->expect_exactly(1.0f, this->row({1, 2, 3, 4, 5, 6, value, 8}));
    this->expect_exactly(1.0f, this->row({value}));
  }
}

TYPED_TEST(Scale24Test, MatchesTheDefinitionOnNormalTokens) {
  for (const std::int64_t channels : {16, 80, 3072, 12288}) {
    expect_true_scales(normal_matrix<TypeParam>(3, channels, 5));
  }
}

// Tokens as small and as large as the type has them. Their squares leave the range of fp32.
TYPED_TEST(Scale24Test, MatchesTheDefinitionAtBothEndsOfTheRange) {
  for (const std::uint32_t first : {0u, kInfinityBits<TypeParam> - 64}) {
    TestMatrix<TypeParam> x(16, 80);
    std::mt19937 random(6);
    std::uniform_int_distribution<std::uint32_t> offset(0, 63);
    x.fill([&] { return from_bits<TypeParam>(first + offset(random)); });
    expect_true_scales(x);
  }
}

// A token of one huge channel among ordinary ones, and the reverse of it.
TYPED_TEST(Scale24Test, MatchesTheDefinitionForOutliers) {
  auto x = normal_matrix<TypeParam>(2, 64, 7);
  x.at(0, 13) = from_bits<TypeParam>(kInfinityBits<TypeParam> - 1);
  for (std::int64_t k = 0; k < 63; ++k) x.at(1, k) = from_bits<TypeParam>(1);
  expect_true_scales(x);
}

TEST(Scale24, DoesNotDependOnTheSizeOfTheToken) {
  const auto x = normal_matrix<float>(4, 64, 8);
  for (const Path path : {Path::kCompress, Path::kSparsify}) {
    const std::vector<float> expected = scales(path, x);
    for (const float factor : {0x1p-120f, 0x1p-70f, 0x1p-40f, 0x1p40f, 0x1p120f}) {
      TestMatrix<float> scaled = x;
      for (float& value : scaled.data) value *= factor;
      const std::vector<float> scale = scales(path, scaled);
      for (std::size_t m = 0; m < scale.size(); ++m) {
        EXPECT_NEAR(scale[m], expected[m], 2 * tolerance(64) * expected[m]) << factor;
      }
    }
  }
}

}  // namespace
}  // namespace rtlynx
