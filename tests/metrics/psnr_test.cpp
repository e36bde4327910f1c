// SPDX-License-Identifier: Apache-2.0
#include "metrics/psnr.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "base/error.h"

namespace rtlynx {
namespace {

Image constant(int width, int height, std::uint8_t value) {
  Image image(width, height);
  image.rgb.assign(image.rgb.size(), value);
  return image;
}

TEST(Psnr, EqualPicturesAreInfinitelyAlike) {
  EXPECT_EQ(psnr(constant(3, 2, 7), constant(3, 2, 7)), INFINITY);
}

TEST(Psnr, ConstantOffset) {
  // The mean square is 10^2, so 20 log10(255 / 10).
  EXPECT_NEAR(psnr(constant(5, 4, 100), constant(5, 4, 110)), 28.130804, 1e-6);
  EXPECT_NEAR(psnr(constant(5, 4, 0), constant(5, 4, 255)), 0.0, 1e-12);
}

TEST(Psnr, OneValueOfSix) {
  Image changed = constant(2, 1, 50);
  changed.rgb[4] = 56;
  // The mean square is 36 / 6, so 10 log10(65025 / 6).
  EXPECT_NEAR(psnr(constant(2, 1, 50), changed), 40.349291, 1e-6);
  EXPECT_EQ(psnr(changed, constant(2, 1, 50)), psnr(constant(2, 1, 50), changed));
}

TEST(Psnr, RejectsDifferentSizesAndEmptyPictures) {
  EXPECT_THROW(psnr(constant(2, 3, 0), constant(3, 2, 0)), Error);
  EXPECT_THROW(psnr(Image(), Image()), Error);
}

}  // namespace
}  // namespace rtlynx
