// SPDX-License-Identifier: Apache-2.0
#include "benchmark/results.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace rtlynx::benchmark {
namespace {

double quantile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  require(!values.empty(), "spread", "at least one value", "none");
  std::sort(values.begin(), values.end());
  return {
      .median = quantile(values, 0.5), .p10 = quantile(values, 0.1), .p90 = quantile(values, 0.9)};
}

const Timing* Section::find(const std::string& figure) const {
  for (const Figure& known : figures) {
    if (known.name == figure && known.timing) return &*known.timing;
  }
  return nullptr;
}

const Timing* ShapeResult::find(const std::string& section, const std::string& figure) const {
  for (const Section& known : sections) {
    if (known.name == section) return known.find(figure);
  }
  return nullptr;
}

}  // namespace rtlynx::benchmark
