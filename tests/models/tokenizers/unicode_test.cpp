// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/unicode.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

TEST(Unicode, NfcComposesAndOrdersMarks) {
  EXPECT_EQ(nfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(nfc("\u1100\u1161"), "\uac00");
  EXPECT_EQ(nfc("\u212b"), "\u00c5");
  EXPECT_EQ(nfc("s\u0307\u0323"), "\u1e69");
  EXPECT_EQ(nfc("\ufb01"), "\ufb01") << "compatibility forms stay";
  EXPECT_EQ(nfc(std::string_view("a\0b", 3)), std::string_view("a\0b", 3));
}

TEST(Unicode, LowerCaseLooksAtOneCodePointAtATime) {
  EXPECT_EQ(lower_case("ABC \u00c9\u0416"), "abc \u00e9\u0436");
  EXPECT_EQ(lower_case("\u03a3\u03a3"), "\u03c3\u03c3") << "no final sigma";
  EXPECT_EQ(lower_case("\u0130"), "i\u0307");
  EXPECT_EQ(lower_case("\U00010400"), "\U00010428");
}

TEST(Unicode, RunsOfWhiteSpaceBecomeOneSpace) {
  EXPECT_EQ(collapse_white_space(" a\t\n\u0085\u3000b  "), " a b ");
  EXPECT_EQ(collapse_white_space("a\u180e\u200bb"), "a\u180e\u200bb") << "not white space";
}

TEST(Unicode, InvalidUtf8IsAUsageErrorThatGivesThePosition) {
  EXPECT_NO_THROW(require_utf8("caf\u00e9 \U0001f600"));
  EXPECT_NO_THROW(require_utf8(""));
  for (const char* bad : {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\x80"}) {
    try {
      require_utf8(bad);
      FAIL() << bad;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("invalid byte at position 2"), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace rtlynx
