// SPDX-License-Identifier: Apache-2.0
#include "options/number.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace rtlynx::options {
namespace {

using ::testing::HasSubstr;

/// What `--x text` gives, or the refusal.
template <typename T>
std::string parsed(const CLI::Validator& validator, const std::string& text) {
  CLI::App app;
  T value{};
  app.add_option("--x", value)->transform(validator);
  try {
    app.parse(std::vector<std::string>{text, "--x"});  // CLI11 takes them from the back
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return std::to_string(value);
}

TEST(WholeNumber, IsDecimal) {
  EXPECT_EQ(parsed<int>(whole_number(1, 1000), "010"), "10");
  EXPECT_EQ(parsed<int>(whole_number(-5, 5), "-3"), "-3");
  for (const char* text : {"0x10", "1e3", "1.5", " 1", "ten", "nan", "99999999999999999999"}) {
    EXPECT_THAT(parsed<std::int64_t>(whole_number(1), text),
                HasSubstr("--x: required a decimal whole number of at least 1, got"))
        << text;
  }
  EXPECT_THAT(parsed<int>(whole_number(1, 1000), "0"), HasSubstr("from 1 to 1000, got \"0\""));
  EXPECT_THAT(parsed<int>(whole_number(1, 1000), "4294967297"), HasSubstr("from 1 to 1000"));
}

TEST(Seed, IsNeverNegative) {
  EXPECT_EQ(parsed<std::uint64_t>(seed(), "18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(parsed<std::uint64_t>(seed(), "010"), "10");
  for (const char* text : {"-1", "18446744073709551616", "0x1", ""}) {
    EXPECT_THAT(parsed<std::uint64_t>(seed(), text), HasSubstr("from 0 to 2^64 - 1")) << text;
  }
}

TEST(Number, IsFinite) {
  EXPECT_EQ(parsed<double>(number(0, 100), "4e-1"), "0.400000");
  for (const char* text : {"nan", "inf", "-0.1", "100.1", "1e999", "0x1p1", "1,5"}) {
    EXPECT_THAT(parsed<double>(number(0, 100), text),
                HasSubstr("a finite decimal number from 0 to 100"))
        << text;
  }
  EXPECT_EQ(parsed<double>(positive_number(), "1e-300"), "0.000000");
  for (const char* text : {"0", "-1", "nan"}) {
    EXPECT_THAT(parsed<double>(positive_number(), text), HasSubstr("number above 0, got"));
  }
  EXPECT_THAT(parsed<double>(positive_number(1), "0"), HasSubstr("above 0, up to 1"));
}

}  // namespace
}  // namespace rtlynx::options
