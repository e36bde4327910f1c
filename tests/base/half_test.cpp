// SPDX-License-Identifier: Apache-2.0
#include "base/half.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace rtlynx {
namespace {

// What IEEE 754 says about a format of 16 bits: sign, exponent, `mantissa` bits of fraction.
struct Format {
  int mantissa;
  int bias;
};
constexpr Format kHalf{10, 15};
constexpr Format kBFloat16{7, 127};

template <typename T>
constexpr Format kFormat = kHalf;
template <>
constexpr Format kFormat<BFloat16> = kBFloat16;

template <typename T>
constexpr std::uint16_t kInfinity =
    static_cast<std::uint16_t>(0x7fff >> kFormat<T>.mantissa << kFormat<T>.mantissa);

// The value by the definition of the format, in double.
template <typename T>
double value_of(std::uint16_t bits) {
  const Format format = kFormat<T>;
  const int exponent = (bits & 0x7fff) >> format.mantissa;
  const int fraction = bits & ((1 << format.mantissa) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if ((bits & 0x7fff) > kInfinity<T>) return std::numeric_limits<double>::quiet_NaN();
  if ((bits & 0x7fff) == kInfinity<T>) return sign * std::numeric_limits<double>::infinity();
  const int hidden = exponent == 0 ? 0 : 1 << format.mantissa;
  return sign *
         std::ldexp(hidden + fraction, std::max(exponent, 1) - format.bias - format.mantissa);
}

template <typename T>
class HalfTest : public ::testing::Test {};
using SixteenBit = ::testing::Types<Half, BFloat16>;
TYPED_TEST_SUITE(HalfTest, SixteenBit);

TYPED_TEST(HalfTest, WidensEveryValueExactly) {
  for (int i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const double expected = value_of<TypeParam>(bits);
    const float widened = to_float(TypeParam{bits});
    ASSERT_EQ(std::isnan(widened), std::isnan(expected)) << i;
    if (!std::isnan(expected)) {
      ASSERT_EQ(static_cast<double>(widened), expected) << i;
    }
    ASSERT_EQ(std::signbit(widened), (bits & 0x8000) != 0) << i;
  }
}

TYPED_TEST(HalfTest, NarrowingUndoesWidening) {
  const std::uint16_t quiet = 1 << (kFormat<TypeParam>.mantissa - 1);
  for (int i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const bool is_nan = (bits & 0x7fff) > kInfinity<TypeParam>;
    ASSERT_EQ(from_float<TypeParam>(to_float(TypeParam{bits})).bits, is_nan ? bits | quiet : bits)
        << i;
  }
}

// Every place where the rounding changes: the midpoint of two neighbours, and what lies beside it.
TYPED_TEST(HalfTest, RoundsToNearestEvenAtEveryBoundary) {
  const float highest = std::numeric_limits<float>::infinity();
  for (std::uint16_t low = 0; low < kInfinity<TypeParam>; ++low) {
    const auto high = static_cast<std::uint16_t>(low + 1);
    // The neighbour of the largest value is where the next one would be, were it not infinite.
    const double above = high == kInfinity<TypeParam>
                             ? 2 * value_of<TypeParam>(low) - value_of<TypeParam>(low - 1)
                             : value_of<TypeParam>(high);
    const auto middle = static_cast<float>((value_of<TypeParam>(low) + above) / 2);
    const std::uint16_t even = low % 2 == 0 ? low : high;
    ASSERT_EQ(from_float<TypeParam>(middle).bits, even) << low;
    ASSERT_EQ(from_float<TypeParam>(-middle).bits, even | 0x8000) << low;
    ASSERT_EQ(from_float<TypeParam>(std::nextafter(middle, 0.0f)).bits, low) << low;
    ASSERT_EQ(from_float<TypeParam>(std::nextafter(middle, highest)).bits, high) << low;
  }
}

TYPED_TEST(HalfTest, OverflowIsInfiniteAndUnderflowIsASignedZero) {
  const float largest = std::numeric_limits<float>::max();
  const float smallest = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(from_float<TypeParam>(largest).bits, kInfinity<TypeParam>);
  EXPECT_EQ(from_float<TypeParam>(-largest).bits, kInfinity<TypeParam> | 0x8000);
  EXPECT_EQ(from_float<TypeParam>(smallest).bits, 0);
  EXPECT_EQ(from_float<TypeParam>(-smallest).bits, 0x8000);
}

TYPED_TEST(HalfTest, NanOfAnyPayloadStaysNan) {
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffc00000u}) {
    const std::uint16_t narrowed = from_float<TypeParam>(std::bit_cast<float>(bits)).bits;
    EXPECT_GT(narrowed & 0x7fff, kInfinity<TypeParam>) << bits;
    EXPECT_EQ(narrowed >> 15, bits >> 31) << bits;
  }
}

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f32), 4);
  EXPECT_EQ(size_of(DType::f16), 2);
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_STREQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(size_of(static_cast<DType>(7)), 0);
  EXPECT_STREQ(name_of(static_cast<DType>(7)), "unknown");
}

TEST(DType, DispatchGivesTheElementType) {
  const auto size = [](auto element) { return sizeof(element); };
  EXPECT_EQ(with_element_type(DType::f32, size), 4u);
  const auto is_bf16 = [](auto element) { return std::is_same_v<decltype(element), BFloat16>; };
  EXPECT_TRUE(with_element_type(DType::bf16, is_bf16));
  EXPECT_FALSE(with_element_type(DType::f16, is_bf16));
  EXPECT_THAT([&] { with_element_type(static_cast<DType>(7), size); },
              ::testing::ThrowsMessage<Error>("dtype: required f32, f16 or bf16, got 7"));
}

}  // namespace
}  // namespace rtlynx
