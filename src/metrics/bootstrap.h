// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace rtlynx {

struct Interval {
  double low = 0;
  double high = 0;
};

struct BootstrapOptions {
  int resamples = 2000;
  double confidence = 0.95;
  std::uint64_t seed = 0;
};

/// The percentile bootstrap (Efron 1979) of a statistic of `count` samples: it is computed for
/// `resamples` draws of `count` indices with replacement, and the interval holds the middle
/// `confidence` of the values, interpolated linearly. Samples that belong together, such as the
/// steps of one prompt, must be one sample. Throws Error without samples or for options that mean
/// nothing.
Interval bootstrap_interval(std::size_t count,
                            const std::function<double(std::span<const std::size_t>)>& statistic,
                            const BootstrapOptions& options = {});

/// The same for the mean of `values`.
Interval bootstrap_mean(const std::vector<double>& values, const BootstrapOptions& options = {});

}  // namespace rtlynx
