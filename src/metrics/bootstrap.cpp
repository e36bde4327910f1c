// SPDX-License-Identifier: Apache-2.0
#include "metrics/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/rng.h"

namespace rtlynx {
namespace {

// The value that a share of the sorted values does not exceed, between neighbours linearly.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return part == 0 ? sorted[below] : (1 - part) * sorted[below] + part * sorted[above];
}

}  // namespace

Interval bootstrap_interval(std::size_t count,
                            const std::function<double(std::span<const std::size_t>)>& statistic,
                            const BootstrapOptions& options) {
  constexpr std::size_t kMost = std::numeric_limits<int>::max();
  require(count >= 1 && count <= kMost, "bootstrap", "at least one sample", std::to_string(count));
  require(options.resamples >= 1, "bootstrap", "at least one resample",
          std::to_string(options.resamples));
  require(options.confidence > 0 && options.confidence < 1, "bootstrap",
          "a confidence between 0 and 1", std::to_string(options.confidence));
  Rng rng(options.seed);
  std::vector<std::size_t> drawn(count);
  std::vector<double> values;
  for (int i = 0; i < options.resamples; ++i) {
    for (std::size_t& index : drawn) {
      index = static_cast<std::size_t>(rng.below(static_cast<int>(count)));
    }
    values.push_back(statistic(drawn));
  }
  std::sort(values.begin(), values.end());
  const double tail = (1 - options.confidence) / 2;
  return {.low = quantile(values, tail), .high = quantile(values, 1 - tail)};
}

Interval bootstrap_mean(const std::vector<double>& values, const BootstrapOptions& options) {
  return bootstrap_interval(
      values.size(),
      [&](std::span<const std::size_t> drawn) {
        double sum = 0;
        for (const std::size_t index : drawn) sum += values[index];
        return sum / static_cast<double>(drawn.size());
      },
      options);
}

}  // namespace rtlynx
