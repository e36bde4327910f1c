// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "step_benchmark/results.h"

namespace rtlynx::step_benchmark {

nlohmann::ordered_json to_json(const StepResult& result);

/// A line for each variant.
std::string to_text(const StepResult& result);

/// Milliseconds of the last round by variant.
nlohmann::ordered_json last_round(const StepResult& result);

/// Throws Error for a variant whose fused path is further from fp32 than twice the plain path: both
/// round as often as each other, but in other places.
void refuse_wrong(const StepResult& result);

}  // namespace rtlynx::step_benchmark
