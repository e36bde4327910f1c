// SPDX-License-Identifier: Apache-2.0
#include "base/number.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

namespace rtlynx {
namespace {

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

TEST(ParseWholeNumber, TakesDecimalDigits) {
  EXPECT_EQ(parse_whole_number<int>("0"), 0);
  EXPECT_EQ(parse_whole_number<int>("010"), 10);  // not octal
  EXPECT_EQ(parse_whole_number<int>("-7"), -7);
  EXPECT_EQ(parse_whole_number<std::uint64_t>("18446744073709551615"), ~std::uint64_t{0});
}

TEST(ParseWholeNumber, RefusesEverythingElse) {
  for (const char* text : {"", " 1", "1 ", "+1", "1.0", "1e3", "0x10", "ten", "--1", "1,000"}) {
    EXPECT_EQ(parse_whole_number<std::int64_t>(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_whole_number<std::uint64_t>("-1"), std::nullopt);
  EXPECT_EQ(parse_whole_number<std::uint64_t>("18446744073709551616"), std::nullopt);
  EXPECT_EQ(parse_whole_number<int>("2147483648"), std::nullopt);
}

TEST(ParseNumber, TakesFiniteDecimalNumbers) {
  EXPECT_EQ(parse_number("4e-4"), 4e-4);
  EXPECT_EQ(parse_number("-.5"), -0.5);
  EXPECT_EQ(parse_number("007"), 7);
  for (const char* text : {"", "nan", "inf", "-inf", "1e999", "0x1p3", "1.5x", " 1", "+1"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

TEST(CheckedProduct, TellsOverflow) {
  EXPECT_EQ(checked_product<std::int64_t>(3, -4), -12);
  EXPECT_EQ(checked_product<std::int64_t>(kLargest, 1), kLargest);
  EXPECT_EQ(checked_product<std::int64_t>(kLargest, 2), std::nullopt);
}

}  // namespace
}  // namespace rtlynx
