// SPDX-License-Identifier: Apache-2.0
#include "metrics/high_frequency_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "base/rng.h"

namespace rtlynx {
namespace {

Image random_image(int width, int height, std::uint64_t seed) {
  Rng rng(seed);
  Image image(width, height);
  for (std::uint8_t& value : image.rgb) value = static_cast<std::uint8_t>(rng.below(100));
  return image;
}

TEST(HighFrequencyError, OneDotAgainstTwiceTheDot) {
  Image reference(5, 5), image(5, 5);
  reference.pixel(2, 2)[1] = 10;
  image.pixel(2, 2)[1] = 20;
  EXPECT_DOUBLE_EQ(high_frequency_error(reference, image), 1.0);
  EXPECT_DOUBLE_EQ(high_frequency_error(image, reference), 0.5);
}

TEST(HighFrequencyError, IsOneWhereDetailIsMissing) {
  EXPECT_DOUBLE_EQ(high_frequency_error(random_image(9, 7, 1), Image(9, 7)), 1.0);
}

TEST(HighFrequencyError, BrightnessAndSlopesAreNoDetail) {
  const Image reference = random_image(9, 7, 1);
  Image image = reference;
  for (int y = 0; y < 7; ++y) {
    for (int x = 0; x < 9; ++x) image.pixel(x, y)[0] += static_cast<std::uint8_t>(30 + 4 * x + y);
  }
  EXPECT_EQ(high_frequency_error(reference, image), 0.0);
}

TEST(HighFrequencyError, AFlatReferenceHasNone) {
  EXPECT_EQ(high_frequency_error(Image(4, 4), Image(4, 4)), 0.0);
  EXPECT_EQ(high_frequency_error(Image(4, 4), random_image(4, 4, 2)), INFINITY);
}

TEST(HighFrequencyError, RejectsSmallAndUnequalPictures) {
  EXPECT_THROW(high_frequency_error(Image(2, 3), Image(2, 3)), Error);
  EXPECT_THROW(high_frequency_error(Image(4, 3), Image(3, 4)), Error);
}

}  // namespace
}  // namespace rtlynx
