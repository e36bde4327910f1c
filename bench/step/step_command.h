// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rtlynx::benchmark {

/// `rtlynx bench --step`.
struct StepOptions {
  std::string family = "flux";
  std::vector<std::string> variants;  // none: all
  int rounds = 5;                     // each times every variant once, in turn
  int repeats = 10;                   // steps of a round
  bool turns = false;  // before each round wait for a line on stdin, so that another may run in between
  bool check = true;   // compare with the plain path and fp32 first
  std::uint64_t seed = 1;
  std::string json;
};

/// Needs a GPU. Prints a table, or with `turns` a line of JSON for each round. Throws Error, after
/// all has been written, if a variant is further from fp32 than twice the plain path.
void run_step(const StepOptions& options);

}  // namespace rtlynx::benchmark
