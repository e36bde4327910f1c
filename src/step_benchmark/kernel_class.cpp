// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/kernel_class.h"

#include <array>
#include <utility>

namespace rtlynx::step_benchmark {

std::string class_of_kernel(const std::string& name) {
  static constexpr std::array<std::pair<const char*, const char*>, 16> kParts = {{
      {"pack24", "pack"},
      {"factors_kernel", "pack"},
      {"product24", "sparse product"},
      {"residual_norm", "rows"},
      {"head_norm", "rows"},
      {"swiglu_kernel", "rows"},
      {"cudnn", "attention"},
      {"flash", "attention"},
      {"fmha", "attention"},
      {"attention", "attention"},
      {"gemm", "dense product"},
      {"gemv", "dense product"},
      {"nvjet", "dense product"},
      {"cutlass", "dense product"},
      {"cublas", "dense product"},
      {"splitK", "dense product"},
  }};
  for (const auto& [part, kind] : kParts) {
    if (name.find(part) != std::string::npos) return kind;
  }
  return "other";
}

}  // namespace rtlynx::step_benchmark
