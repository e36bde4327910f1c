// SPDX-License-Identifier: Apache-2.0
#include "metrics/ssim.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "metrics/same_size.h"

namespace rtlynx {
namespace {

constexpr int kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kC1 = (0.01 * 255.0) * (0.01 * 255.0);
constexpr double kC2 = (0.03 * 255.0) * (0.03 * 255.0);

std::array<double, kWindow> gaussian() {
  std::array<double, kWindow> taps;
  double sum = 0.0;
  for (int i = 0; i < kWindow; ++i) {
    const double x = i - kWindow / 2;
    taps[static_cast<std::size_t>(i)] = std::exp(-x * x / (2.0 * kSigma * kSigma));
    sum += taps[static_cast<std::size_t>(i)];
  }
  for (double& tap : taps) tap /= sum;
  return taps;
}

struct Plane {
  int width;
  int height;
  std::vector<double> values;  // [height, width], row-major

  Plane(int w, int h)
      : width(w), height(h), values(static_cast<std::size_t>(w) * static_cast<std::size_t>(h)) {}

  double& at(int x, int y) { return values[static_cast<std::size_t>(y * width + x)]; }
  double at(int x, int y) const { return values[static_cast<std::size_t>(y * width + x)]; }
};

/// The window's weighted mean at every place where it fits: rows first, then columns.
Plane window_mean(const Plane& in) {
  static const std::array<double, kWindow> taps = gaussian();
  Plane rows(in.width - kWindow + 1, in.height);
  for (int y = 0; y < rows.height; ++y)
    for (int x = 0; x < rows.width; ++x)
      for (int i = 0; i < kWindow; ++i)
        rows.at(x, y) += taps[static_cast<std::size_t>(i)] * in.at(x + i, y);
  Plane out(rows.width, in.height - kWindow + 1);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int i = 0; i < kWindow; ++i)
        out.at(x, y) += taps[static_cast<std::size_t>(i)] * rows.at(x, y + i);
  return out;
}

Plane channel(const Image& image, int c) {
  Plane plane(image.width, image.height);
  for (std::size_t i = 0; i < plane.values.size(); ++i)
    plane.values[i] = image.rgb[3 * i + static_cast<std::size_t>(c)];
  return plane;
}

Plane product(const Plane& a, const Plane& b) {
  Plane out(a.width, a.height);
  for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] = a.values[i] * b.values[i];
  return out;
}

double channel_ssim(const Plane& a, const Plane& b) {
  const Plane mean_a = window_mean(a);
  const Plane mean_b = window_mean(b);
  const Plane mean_aa = window_mean(product(a, a));
  const Plane mean_bb = window_mean(product(b, b));
  const Plane mean_ab = window_mean(product(a, b));
  double sum = 0.0;
  for (std::size_t i = 0; i < mean_a.values.size(); ++i) {
    const double ma = mean_a.values[i];
    const double mb = mean_b.values[i];
    const double variance_a = mean_aa.values[i] - ma * ma;
    const double variance_b = mean_bb.values[i] - mb * mb;
    const double covariance = mean_ab.values[i] - ma * mb;
    sum += (2.0 * ma * mb + kC1) * (2.0 * covariance + kC2) /
           ((ma * ma + mb * mb + kC1) * (variance_a + variance_b + kC2));
  }
  return sum / static_cast<double>(mean_a.values.size());
}

}  // namespace

double ssim(const Image& a, const Image& b) {
  require_same_size("ssim", a, b, kWindow);
  double sum = 0.0;
  for (int c = 0; c < 3; ++c) sum += channel_ssim(channel(a, c), channel(b, c));
  return sum / 3.0;
}

}  // namespace rtlynx
