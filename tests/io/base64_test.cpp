// SPDX-License-Identifier: Apache-2.0
#include "io/base64.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace rtlynx {
namespace {

std::string encode(std::string_view text) { return to_base64(std::as_bytes(std::span(text))); }

TEST(Base64, TestVectorsOfRfc4648) {
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foo"), "Zm9v");
  EXPECT_EQ(encode("foob"), "Zm9vYg==");
  EXPECT_EQ(encode("fooba"), "Zm9vYmE=");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Base64, BytesAboveTheSignBit) {
  const std::array<std::byte, 3> bytes = {std::byte{0xfb}, std::byte{0xff}, std::byte{0xfe}};
  EXPECT_EQ(to_base64(bytes), "+//+");
}

}  // namespace
}  // namespace rtlynx
