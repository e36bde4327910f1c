// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "benchmark/results.h"
#include "benchmark/shapes.h"

namespace rtlynx::benchmark::testing {

inline Figure timed(std::string name, double burst, double sustained) {
  return {std::move(name),
          Timing{.burst = {burst, burst, burst}, .sustained = {sustained, sustained, sustained}},
          ""};
}

/// Made-up figures of one shape whose ratios are known: GEMM 1.5 and 1.25 times as fast as
/// cuBLASLt, twice as fast as cuSPARSELt, and so on.
inline ShapeResult synthetic_result(const Shape& shape) {
  ShapeResult result{.shape = shape};
  result.gemm.config.path = result.linear.config.path = gpu::Gemm24Config::Path::sm90;
  result.checks = {{"gemm", 0.001, 0.004}};
  result.sections = {
      {"gemm",
       {timed("rtlynx", 100, 120), timed("cublaslt", 150, 150), timed("cusparselt", 200, 240)}},
      {"pack",
       {timed("rtlynx", 10, 8), timed("rank64", 14, 12), timed("transform64", 20, 18),
        timed("cusparselt", 40, 40), timed("copy", 9, 9)}},
      {"linear", {timed("rtlynx", 125, 150), timed("gemm", 110, 130), timed("cublaslt", 175, 180)}},
      {"fused",
       {timed("rtlynx", 130, 155), timed("pack", 16, 15), timed("producer", 9.5, 9),
        timed("cublaslt", 182, 189)}}};
  if (shape.producer == Producer::none) result.sections.pop_back();  // nothing to fuse
  return result;
}

inline RunResult synthetic_run(const std::vector<Shape>& shapes) {
  RunResult run{.gpu = "GPU <1>", .date = "2026-01-02", .dtype = "bf16", .repeats = 21};
  run.copy_bytes_per_second = 4e12;
  run.rivals = {{.name = "cublaslt", .version = "130000", .path = "libcublasLt.so.13"},
                {.name = "cusparselt", .missing = "not found"}};
  for (const Shape& shape : shapes) run.shapes.push_back(synthetic_result(shape));
  return run;
}

/// Takes a figure out, as if it had not been timed.
inline void take_out(ShapeResult& result, const std::string& section, const std::string& figure) {
  for (Section& known : result.sections) {
    for (Figure& entry : known.figures) {
      if (known.name == section && entry.name == figure) {
        entry.timing.reset();
        entry.missing = "taken out";
      }
    }
  }
}

}  // namespace rtlynx::benchmark::testing
