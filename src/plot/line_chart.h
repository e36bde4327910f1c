// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace rtlynx {

/// Curves over one horizontal axis, both axes from the data's range; the vertical one starts at 0.
struct LineChart {
  struct Series {
    std::string label;
    std::vector<double> values;  // one per position in `x`
  };
  std::string title;
  std::string subtitle;
  std::string x_axis;
  std::string y_axis;
  std::vector<double> x;       // ascending
  std::vector<Series> series;  // at most six
};

/// Throws Error for a series that has not a value per position.
std::string to_svg(const LineChart& chart);

}  // namespace rtlynx
