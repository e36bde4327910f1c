// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/version.h"

#include <gtest/gtest.h>

#include <string>

namespace rtlynx {
namespace {

TEST(Version, LibraryAndHeadersAgree) {
  EXPECT_STREQ(version(), RTLYNX_VERSION_STRING);
  EXPECT_EQ(std::string(version()), std::to_string(RTLYNX_VERSION_MAJOR) + "." +
                                        std::to_string(RTLYNX_VERSION_MINOR) + "." +
                                        std::to_string(RTLYNX_VERSION_PATCH));
}

}  // namespace
}  // namespace rtlynx
