// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/image.h"

namespace rtlynx {

/// What a page is made of.
struct ReportParts {
  nlohmann::json evaluation;  ///< of evaluate_methods()
  nlohmann::json analysis;    ///< of analyze(), or null
  std::string analysis_file;  ///< begins messages about it
  /// By method, of the first captions; methods without pictures are left out of the grid.
  std::map<std::string, std::vector<Image>> pictures;
};

/// The names of the methods in a report of evaluate_methods; throws Error, beginning with `where`,
/// for anything else.
std::vector<std::string> reported_methods(const nlohmann::json& evaluation,
                                          const std::string& where);

/// One HTML page that needs nothing else, no network and no script: what was measured and how to
/// read it, the table of methods with its intervals, charts as inline SVG, pictures as inline PNG,
/// how many directions the layers' inputs use, and the charts of the analysis. Text from the parts
/// is escaped. Throws Error, beginning with `where`, if `evaluation` is not what evaluate_methods
/// reports.
std::string make_report(const ReportParts& parts, const std::string& where);

}  // namespace rtlynx
