// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace rtlynx {

struct NamedChart {
  std::string name;  ///< fit for a file: "kept-energy"
  std::string svg;
};

/// Draws what analyze() reports: distributions, kept energy and errors by layer, errors by step.
/// Throws Error, beginning with `where`, for a report that is not one of analyze().
std::vector<NamedChart> analysis_charts(const nlohmann::json& analysis, const std::string& where);

}  // namespace rtlynx
