// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "step_benchmark/results.h"

namespace rtlynx::step_benchmark {

struct StepOptions {
  std::string family = "flux";
  std::optional<std::int64_t> side;  // pixels; none: the family's own
  std::int64_t batch = 1;
  std::vector<std::string> variants;  // none: all
  int rounds = 5;                     // each times every variant once, in turn
  int repeats = 10;                   // steps of a round
  bool check = true;                  // compare with the plain path in fp32 first
  bool turns = false;                 // wait for a line on stdin before each round
  std::uint64_t seed = 0;
  std::string json;
};

/// What happens between the rounds.
struct StepEvents {
  std::function<void(const std::string& variant)> captured;
  std::function<bool()> may_begin;                  // a round; false: no more of them
  std::function<void(const StepResult&)> finished;  // a round
};

/// Times the variants on the current device, each captured as a CUDA graph and warm, in turn.
/// Throws UsageError for a family or variant that is none, Error without a GPU.
StepResult run_step(const StepOptions& options, const StepEvents& events);

}  // namespace rtlynx::step_benchmark
