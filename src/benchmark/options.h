// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "benchmark/shapes.h"
#include "rtlynx/dtype.h"

namespace rtlynx::benchmark {

/// The command line of the GPU benchmark.
struct Options {
  std::vector<std::string> sets;        // names of shape sets
  std::vector<std::string> own_shapes;  // "M,N,K" or "M,N+N,K"
  std::string dtype = "bf16";
  std::optional<int> repeats;
  double sustained_ms = 40;
  std::string config;  // empty: what select_gemm24 says
  bool sweep = false;
  std::vector<std::string> what = {"gemm", "pack", "linear", "fused"};
  std::string json;
  std::string plot;
  std::vector<std::string> library_folders;
  std::uint64_t seed = 0;

  bool wants(const std::string& section) const;
  bool wants_weights() const { return wants("weight") || wants("e4m3-weight"); }
  DType element() const { return dtype == "f16" ? DType::f16 : DType::bf16; }
  int burst_repeats() const { return repeats.value_or(21); }

  /// Without any choice the set `bench`; without doubles, in the order asked for.
  std::vector<Shape> shapes() const;
};

/// Adds the options to `command`; values that cannot be meant are refused while it parses.
void add_options(CLI::App& command, Options& options);

/// Those of add_options() that mean nothing to a comparison on the CPU.
const std::vector<std::string>& gpu_only_options();

}  // namespace rtlynx::benchmark
