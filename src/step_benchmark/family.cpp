// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/family.h"

#include "base/error.h"
#include "step_benchmark/flux_step.h"
#include "step_benchmark/qwen_image_step.h"
#include "step_benchmark/z_image_step.h"

namespace rtlynx::step_benchmark {

const std::vector<StepFamily>& step_families() {
  static const std::vector<StepFamily> families = {
      {.name = "flux", .side = 1024, .make = make_flux_step},
      {.name = "qwen-image", .side = 1328, .make = make_qwen_image_step},
      {.name = "z-image", .side = 1024, .make = make_z_image_step},
  };
  return families;
}

const StepFamily& step_family_named(const std::string& name) {
  std::string known;
  for (const StepFamily& family : step_families()) {
    if (family.name == name) return family;
    known += (known.empty() ? "" : ", ") + family.name;
  }
  throw UsageError("--step: required one of " + known + ", got " + name);
}

}  // namespace rtlynx::step_benchmark
