// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "step_benchmark/run.h"

namespace rtlynx::step_benchmark {

StepResult run_step(const StepOptions&, const StepEvents&) {
  fail("bench --step", "a GPU, and a build with GPU kernels and a torch with CUDA",
       "a build without them");
}

}  // namespace rtlynx::step_benchmark
