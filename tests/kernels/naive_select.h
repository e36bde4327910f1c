// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"

namespace rtlynx {

/// Which channels of a group stay, by a stable sort on what the rule says: NaN first, then falling
/// magnitude.
template <typename T>
std::array<bool, 4> naive_select(const T* group) {
  std::array<int, 4> order{0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(), [&](int i, int j) {
    const float a = std::fabs(to_float(group[i]));
    const float b = std::fabs(to_float(group[j]));
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
    return a > b;
  });
  std::array<bool, 4> stays{};
  stays[static_cast<std::size_t>(order[0])] = true;
  stays[static_cast<std::size_t>(order[1])] = true;
  return stays;
}

}  // namespace rtlynx
