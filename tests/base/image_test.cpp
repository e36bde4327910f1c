// SPDX-License-Identifier: Apache-2.0
#include "base/image.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace rtlynx {
namespace {

TEST(Image, PixelsAreRowMajorFromTheTop) {
  Image image(3, 2);
  ASSERT_EQ(image.rgb.size(), 18u);
  image.pixel(2, 1)[0] = 7;
  EXPECT_EQ(image.rgb[15], 7);
  EXPECT_EQ(std::as_const(image).pixel(2, 1), image.rgb.data() + 15);
  EXPECT_EQ(image.pixel(0, 0), image.rgb.data());
}

TEST(Image, StartsBlack) {
  const Image image(2, 2);
  EXPECT_EQ(image.rgb, std::vector<std::uint8_t>(12, 0));
}

}  // namespace
}  // namespace rtlynx
