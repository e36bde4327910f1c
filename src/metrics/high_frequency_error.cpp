// SPDX-License-Identifier: Apache-2.0
#include "metrics/high_frequency_error.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "metrics/same_size.h"

namespace rtlynx {
namespace {

std::int64_t laplacian(const Image& image, int x, int y, int c) {
  const auto value = [&](int dx, int dy) {
    return static_cast<std::int64_t>(image.pixel(x + dx, y + dy)[c]);
  };
  return 4 * value(0, 0) - value(-1, 0) - value(1, 0) - value(0, -1) - value(0, 1);
}

}  // namespace

double high_frequency_error(const Image& reference, const Image& image) {
  require_same_size("high_frequency_error", reference, image, 3);
  std::int64_t wrong = 0, whole = 0;
  for (int y = 1; y + 1 < image.height; ++y) {
    for (int x = 1; x + 1 < image.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const std::int64_t wanted = laplacian(reference, x, y, c);
        const std::int64_t difference = laplacian(image, x, y, c) - wanted;
        wrong += difference * difference;
        whole += wanted * wanted;
      }
    }
  }
  if (wrong == 0) return 0;
  if (whole == 0) return std::numeric_limits<double>::infinity();
  return std::sqrt(static_cast<double>(wrong) / static_cast<double>(whole));
}

}  // namespace rtlynx
