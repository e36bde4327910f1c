// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace rtlynx::cli {

/// The options of `info` that ask how products Y = X W^T would run.
struct ProductOptions {
  std::vector<std::string> shapes;  // "M,N,K"
  int rank = 0;
  std::string dtype = "bf16";
  std::string gpu = "auto";
  bool costs = false;

  void add_to(CLI::App& command);

  /// {"gpu": ..., "products": [...]}; with `costs` each product lists study/method_costs.h. Throws
  /// UsageError for a shape that is none, and Error if "current" cannot be had.
  nlohmann::ordered_json describe() const;
};

}  // namespace rtlynx::cli
