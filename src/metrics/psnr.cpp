// SPDX-License-Identifier: Apache-2.0
#include "metrics/psnr.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "metrics/same_size.h"

namespace rtlynx {

double psnr(const Image& a, const Image& b) {
  require_same_size("psnr", a, b, 1);
  std::int64_t squares = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) {
    const std::int64_t difference = static_cast<std::int64_t>(a.rgb[i]) - b.rgb[i];
    squares += difference * difference;
  }
  if (squares == 0) return std::numeric_limits<double>::infinity();
  const double mean = static_cast<double>(squares) / static_cast<double>(a.rgb.size());
  return 10.0 * std::log10(255.0 * 255.0 / mean);
}

}  // namespace rtlynx
