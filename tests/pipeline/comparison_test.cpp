// SPDX-License-Identifier: Apache-2.0
#include "pipeline/comparison.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

Image filled(int width, int height, std::uint8_t value) {
  Image image(width, height);
  std::fill(image.rgb.begin(), image.rgb.end(), value);
  return image;
}

TEST(SideBySide, ShowsBothAndFourTimesTheDifference) {
  const Image sheet = side_by_side(filled(3, 2, 10), filled(3, 2, 30));
  EXPECT_EQ(sheet.width, 3 * 3 + 2 * 2);
  EXPECT_EQ(sheet.pixel(0, 0)[0], 10);
  EXPECT_EQ(sheet.pixel(3, 0)[0], 255);  // the gap
  EXPECT_EQ(sheet.pixel(5, 1)[2], 30);
  EXPECT_EQ(sheet.pixel(10, 1)[1], 80);
  EXPECT_EQ(side_by_side(filled(1, 1, 0), filled(1, 1, 200)).pixel(6, 0)[0], 255);
}

TEST(SideBySide, RefusesTwoSizes) {
  EXPECT_THROW(side_by_side(filled(3, 2, 0), filled(2, 3, 0)), Error);
  const Image narrow = filled(2, 3, 0);
  EXPECT_THROW(side_by_side(filled(3, 2, 0), filled(3, 2, 0), &narrow), Error);
}

TEST(Enlarge, RepeatsPixels) {
  Image image(2, 1);
  image.pixel(1, 0)[0] = 9;
  const Image large = enlarge(image, 3);
  EXPECT_EQ(large.width, 6);
  EXPECT_EQ(large.height, 3);
  EXPECT_EQ(large.pixel(2, 2)[0], 0);
  EXPECT_EQ(large.pixel(3, 2)[0], 9);
  EXPECT_THROW(enlarge(image, 0), Error);
}

TEST(Reduce, MakesMeansOfSquares) {
  Image image = filled(5, 2, 10);
  image.pixel(2, 0)[1] = 13;
  image.pixel(3, 1)[1] = 13;
  image.pixel(4, 0)[1] = 255;  // beyond the last full square
  const Image small = reduce(image, 2);
  EXPECT_EQ(small.width, 2);
  EXPECT_EQ(small.height, 1);
  EXPECT_EQ(small.pixel(0, 0)[1], 10);
  EXPECT_EQ(small.pixel(1, 0)[1], 12);  // 11.5, rounded
  EXPECT_EQ(small.pixel(1, 0)[0], 10);
  EXPECT_THROW(reduce(image, 0), Error);
  EXPECT_THROW(reduce(image, 3), Error);
}

}  // namespace
}  // namespace rtlynx
