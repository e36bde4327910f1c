// SPDX-License-Identifier: Apache-2.0
#include "io/text.h"

#include <gtest/gtest.h>

#include <string>

namespace rtlynx {
namespace {

using namespace std::string_literals;

TEST(Text, TellsUtf8) {
  for (const auto& valid : {""s, "plain"s, "\xc3\xa9"s, "\xe2\x82\xac"s, "\xf0\x9f\x90\x88"s,
                            "\xf4\x8f\xbf\xbf"s, "a\0b"s}) {
    EXPECT_TRUE(is_utf8(valid)) << printable(valid);
  }
  for (const auto& invalid :
       {"\x80"s, "\xc3"s, "\xc0\x80"s, "\xe0\x80\x80"s, "\xed\xa0\x80"s, "\xf0\x80\x80\x80"s,
        "\xf4\x90\x80\x80"s, "\xff"s, "\xe2\x82"s, "\xc3("s}) {
    EXPECT_FALSE(is_utf8(invalid)) << printable(invalid);
  }
}

TEST(Text, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(in_quotes("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
  EXPECT_EQ(in_quotes("\x1b[31m\n"), "\"\\x1b[31m\\x0a\"");
  EXPECT_EQ(in_quotes("\xc2\x9b\xff"), "\"\\xc2\\x9b\\xff\"");
  EXPECT_EQ(printable(std::string(1000, 'x')), std::string(200, 'x') + "...");
}

TEST(Text, KeepsLinesAndLengthForATerminal) {
  EXPECT_EQ(terminal_text("a\tb\n\x1b[2J\r\xff"), "a\tb\n\\x1b[2J\\x0d\\xff");
  EXPECT_EQ(terminal_text(std::string(1000, 'x')), std::string(1000, 'x'));
}

TEST(Text, MakesPathsUtf8) {
  EXPECT_EQ(path_text("lat\xe9.png"), "lat\\xe9.png");
  EXPECT_EQ(path_text("caf\xc3\xa9/a b.png"), "caf\xc3\xa9/a b.png");
}

TEST(Text, TellsNamesThatStayInTheirFolder) {
  EXPECT_TRUE(is_plain_file_name("model-00001-of-00002.safetensors"));
  EXPECT_TRUE(is_plain_file_name("..."));
  for (const auto& name : {""s, "."s, ".."s, "../x"s, "/x"s, "a/b"s, "a\\b"s, "a\0b"s}) {
    EXPECT_FALSE(is_plain_file_name(name)) << printable(name);
  }
}

}  // namespace
}  // namespace rtlynx
