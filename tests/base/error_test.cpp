// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

TEST(Error, FailNamesOpRequiredAndArrived) {
  EXPECT_THAT([] { fail("pack24", "an even K", "7"); },
              ThrowsMessage<Error>("pack24: required an even K, got 7"));
}

TEST(Error, RequireFailsOnlyWhenNotOk) {
  EXPECT_NO_THROW(require(true, "op", "a", "b"));
  EXPECT_THAT([] { require(false, "op", "a", "b"); },
              ThrowsMessage<Error>("op: required a, got b"));
}

TEST(Error, UsageErrorIsAnError) {
  EXPECT_THROW(throw UsageError("no such option"), Error);
  EXPECT_THROW(throw Error("no such file"), std::runtime_error);
}

}  // namespace
}  // namespace rtlynx
