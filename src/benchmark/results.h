// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "benchmark/shapes.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::benchmark {

/// Of repeated measurements.
struct Spread {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
};

/// Throws Error for no values.
Spread spread_of(std::vector<double> values);

/// One contender: microseconds per call.
struct Timing {
  Spread burst;                  // single calls, the L2 evicted before each
  Spread sustained;              // calls back to back, over the rounds
  std::optional<double> sm_mhz;  // while sustained
  std::optional<double> watts;   // the same; the driver averages over up to a second
};

/// Something that was timed, or why it was not.
struct Figure {
  std::string name;
  std::optional<Timing> timing;
  std::string missing;
};

/// Contenders that were timed together, round robin.
struct Section {
  std::string name;
  std::vector<Figure> figures;

  const Timing* find(const std::string& figure) const;
};

/// A relative error (Frobenius, over the sampled elements) and how large it may be.
struct Check {
  std::string contender;
  double error = 0;
  double allowed = 0;
};

struct SweepEntry {
  gpu::Gemm24Config config;
  Figure figure;
};

struct ShapeResult {
  Shape shape;
  gpu::Gemm24Choice gemm;    // rank 0
  gpu::Gemm24Choice linear;  // with low rank
  std::vector<Check> checks;
  std::vector<Section> sections;  // those asked for, in the order of --what's help
  std::vector<SweepEntry> sweep;

  const Timing* find(const std::string& section, const std::string& figure) const;
};

/// What the driver reports; a member without a value could not be read.
struct GpuState {
  std::optional<double> sm_mhz, memory_mhz;
  std::optional<double> watts, watts_limit;
  std::optional<double> celsius;
};

/// A library that a contender calls.
struct Rival {
  std::string name;
  std::string version;  // empty: missing
  std::string path;
  std::string missing;
};

struct RunResult {
  std::string gpu;
  gpu::DeviceTraits device;
  std::string driver;           // empty: unknown
  std::string monitor_missing;  // why clocks and power are not known; empty: they are
  std::string date;             // UTC, ISO 8601
  std::string dtype;
  int repeats = 0;
  double sustained_ms = 0;
  std::uint64_t seed = 0;
  std::vector<Rival> rivals;
  double copy_bytes_per_second = 0;  // of a large copy, bytes read and written
  GpuState before, after;
  std::vector<ShapeResult> shapes;
  std::vector<std::string> failures;  // wrong results, failed calls
};

}  // namespace rtlynx::benchmark
