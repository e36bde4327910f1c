// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// How values are spread within their rows, each row divided by its root mean square: a token's
/// channels, or the weights of one output. Rows of zeros do not count.
class Distribution {
 public:
  static constexpr int kBins = 64;
  static constexpr double kRange = 4;       // the outermost bins reach from here to infinity
  static constexpr double kNearZero = 0.1;  // of the root mean square

  /// rows [n, K], K divisible by 4.
  void add(const torch::Tensor& rows);

  double kurtosis() const;              ///< mean fourth power: 3 for a Gaussian
  double near_zero() const;             ///< share of values below kNearZero
  double kept_energy() const;           ///< mean over rows of what the 2 largest of every 4 keep
  std::vector<double> density() const;  ///< per bin, integrating to 1
  static std::vector<double> edges();   ///< kBins + 1

  nlohmann::ordered_json to_json() const;

 private:
  double rows_ = 0;
  double values_ = 0;
  double fourth_powers_ = 0;
  double near_zero_ = 0;
  double kept_energy_ = 0;
  std::vector<double> counts_ = std::vector<double>(kBins);
};

}  // namespace rtlynx
