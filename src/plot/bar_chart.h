// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace rtlynx {

/// Groups of bars beside each other.
struct BarChart {
  struct Group {
    std::string label;
    std::vector<std::optional<double>> values;  // one per series; nothing: no bar
  };
  std::string title;
  std::string subtitle;
  std::string axis;
  std::vector<std::string> series;  // at most six
  std::vector<Group> groups;
  std::optional<double> reference = 1;  // a dashed line
  double bar_width = 14;                // pixels
};

std::string to_svg(const BarChart& chart);

}  // namespace rtlynx
