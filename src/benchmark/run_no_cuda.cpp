// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "benchmark/run.h"

namespace rtlynx::benchmark {

std::string why_no_gpu() { return "a build without GPU kernels"; }

RunResult run_benchmark(const Options&, const Progress&) {
  fail("GPU benchmark", "a build with GPU kernels", why_no_gpu());
}

}  // namespace rtlynx::benchmark
