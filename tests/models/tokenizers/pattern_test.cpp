// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "refusal.h"

namespace rtlynx {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Pattern, CutsByUnicodeProperties) {
  const Pattern pattern(R"(\p{L}+|\p{N})");
  EXPECT_THAT(pattern.matches("h\u00e9llo \u732b12!"),
              ElementsAre("h\u00e9llo", "\u732b", "1", "2"));
  EXPECT_THAT(pattern.matches("..."), IsEmpty());
  EXPECT_THAT(pattern.matches(""), IsEmpty());
}

TEST(Pattern, MayMatchNothingWithoutStandingStill) {
  EXPECT_THAT(Pattern("x*").matches("axxb"), ElementsAre("xx"));
}

TEST(Pattern, SaysWhereAnExpressionIsWrong) {
  const std::string message = refusal([] { Pattern("a(b"); });
  EXPECT_NE(message.find("pattern: required a regular expression, got"), std::string::npos)
      << message;
  EXPECT_NE(message.find("at byte 3 of a(b"), std::string::npos) << message;
}

}  // namespace
}  // namespace rtlynx
