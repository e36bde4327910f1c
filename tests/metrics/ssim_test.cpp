// SPDX-License-Identifier: Apache-2.0
#include "metrics/ssim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "base/rng.h"

namespace rtlynx {
namespace {

constexpr double kC1 = 6.5025;   // (0.01 * 255)^2
constexpr double kC2 = 58.5225;  // (0.03 * 255)^2

Image constant(int width, int height, std::uint8_t value) {
  Image image(width, height);
  image.rgb.assign(image.rgb.size(), value);
  return image;
}

Image random_image(int width, int height, std::uint64_t seed) {
  Rng rng(seed);
  Image image(width, height);
  for (std::uint8_t& value : image.rgb) value = static_cast<std::uint8_t>(rng.below(256));
  return image;
}

Image halfway(const Image& a, const Image& b) {
  Image image = a;
  for (std::size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = static_cast<std::uint8_t>((a.rgb[i] + b.rgb[i]) / 2);
  return image;
}

/// The definition, word for word: a two-dimensional window, central moments, no shortcuts.
double slow_ssim(const Image& a, const Image& b) {
  double weight_sum = 0.0;
  const auto weight = [](int i, int j) {
    return std::exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / (2.0 * 1.5 * 1.5));
  };
  for (int j = 0; j < 11; ++j)
    for (int i = 0; i < 11; ++i) weight_sum += weight(i, j);
  double total = 0.0;
  int windows = 0;
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y + 11 <= a.height; ++y)
      for (int x = 0; x + 11 <= a.width; ++x) {
        const auto mean = [&](auto value) {
          double sum = 0.0;
          for (int j = 0; j < 11; ++j)
            for (int i = 0; i < 11; ++i)
              sum += weight(i, j) / weight_sum *
                     value(double(a.pixel(x + i, y + j)[c]), double(b.pixel(x + i, y + j)[c]));
          return sum;
        };
        const double ma = mean([](double p, double) { return p; });
        const double mb = mean([](double, double q) { return q; });
        const double va = mean([ma](double p, double) { return (p - ma) * (p - ma); });
        const double vb = mean([mb](double, double q) { return (q - mb) * (q - mb); });
        const double cov = mean([ma, mb](double p, double q) { return (p - ma) * (q - mb); });
        total +=
            (2 * ma * mb + kC1) * (2 * cov + kC2) / ((ma * ma + mb * mb + kC1) * (va + vb + kC2));
        ++windows;
      }
  return total / windows;
}

TEST(Ssim, EqualPicturesScoreOne) {
  const Image image = random_image(20, 15, 1);
  EXPECT_NEAR(ssim(image, image), 1.0, 1e-12);
}

TEST(Ssim, ConstantPicturesDifferInLuminanceAlone) {
  // (2 * 100 * 120 + C1) / (100^2 + 120^2 + C1)
  EXPECT_NEAR(ssim(constant(16, 16, 100), constant(16, 16, 120)), 24006.5025 / 24406.5025, 1e-9);
  // C1 / (255^2 + C1)
  EXPECT_NEAR(ssim(constant(11, 11, 0), constant(11, 11, 255)), 9.99900e-5, 1e-9);
}

TEST(Ssim, AgreesWithTheDefinition) {
  const Image a = random_image(17, 13, 2);
  const Image b = random_image(17, 13, 3);
  const Image c = halfway(a, b);
  EXPECT_NEAR(ssim(a, b), slow_ssim(a, b), 1e-9);
  EXPECT_NEAR(ssim(a, c), slow_ssim(a, c), 1e-9);
  EXPECT_GT(ssim(a, c), 0.5);
  EXPECT_LT(std::abs(ssim(a, b)), 0.2);
}

TEST(Ssim, IsSymmetric) {
  const Image a = random_image(12, 14, 4);
  const Image b = random_image(12, 14, 5);
  EXPECT_NEAR(ssim(a, b), ssim(b, a), 1e-12);
}

TEST(Ssim, RejectsSmallAndUnequalPictures) {
  EXPECT_THROW(ssim(constant(10, 20, 0), constant(10, 20, 0)), Error);
  EXPECT_THROW(ssim(constant(20, 20, 0), constant(20, 21, 0)), Error);
}

}  // namespace
}  // namespace rtlynx
