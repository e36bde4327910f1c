// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "benchmark/results.h"

namespace rtlynx::benchmark {

/// Everything, `summary` last. What was not timed is null, and `<name>_missing` says why.
nlohmann::ordered_json to_json(const RunResult& run);

/// The same for people: one table per section, the means, what is missing.
std::string to_text(const RunResult& run);

/// The speed-ups over dense cuBLASLt as an SVG.
std::string to_svg(const RunResult& run);

}  // namespace rtlynx::benchmark
