// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "benchmark/results.h"

namespace rtlynx::benchmark {

enum class Mode { burst, sustained };

double microseconds(const Timing& timing, Mode mode);

/// A speed-up: time of `rival` over time of `ours`, both of one section.
struct Ratio {
  const char* name;
  const char* section;
  const char* ours;
  const char* rival;
  Mode mode;
};

/// All that the report knows, under the names of the summary.
std::span<const Ratio> ratios();

/// Nothing where one of the two was not timed.
std::optional<double> ratio_of(const ShapeResult& result, const Ratio& ratio);

/// What packing adds: (linear - its GEMM) / linear, burst. Nothing where nothing is packed.
std::optional<double> overhead_share(const ShapeResult& result);

/// What packing adds to the producer it is fused with: (pack with the producer - a dense producer)
/// / the linear with it, burst. Below zero where the pack, which writes less, is faster.
std::optional<double> fused_overhead_share(const ShapeResult& result);

/// What a pack reads and writes: an element, half of it, and a nibble of four.
double pack_bytes(const Shape& shape);

/// The bytes that the plain pack moves per second, of those that a large copy moves: burst with the
/// launch of one call, sustained without. Nothing where it was not timed.
std::optional<double> pack_share_of_copy(const ShapeResult& result, double copy_bytes_per_second,
                                         Mode mode);

/// Geometric means over the shapes with `in_mean`, those of section `fused` over the ones with a
/// producer; and per model the totals of the shapes with `in_pass` in one forward pass. A mean that
/// lacks a figure of one shape is null, and `missing` says why. A share below 0.1 % counts as 0.1
/// %: the mean has no place for zero.
nlohmann::ordered_json summarize(const RunResult& run);

}  // namespace rtlynx::benchmark
