// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/spec/select24.h"

namespace rtlynx {

/// ||x|| / ||x~|| of one token; see rtlynx/compress24.h.
template <typename T>
float token_scale(const T* x, std::int64_t channels) {
  float largest = 0.0f;
  for (std::int64_t k = 0; k < channels; ++k) {
    const float magnitude = std::fabs(to_float(x[k]));
    if (!std::isfinite(magnitude)) return 1.0f;
    largest = std::max(largest, magnitude);
  }
  if (largest == 0.0f) return 1.0f;

  float kept = 0.0f;
  float dropped = 0.0f;
  for (std::int64_t k = 0; k < channels; k += kGroup) {
    const Pair24 pair = select24(x + k);
    for (int i = 0; i < kGroup; ++i) {
      const float value = to_float(x[k + i]) / largest;
      (i == pair.first || i == pair.second ? kept : dropped) += value * value;
    }
  }
  return std::sqrt(1.0f + dropped / kept);
}

}  // namespace rtlynx
