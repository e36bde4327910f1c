// SPDX-License-Identifier: Apache-2.0
#include "step/profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/torch.h>

#include <array>
#include <set>
#include <utility>

namespace rtlynx::benchmark {

namespace profiler = torch::profiler::impl;

std::string class_of_kernel(const std::string& name) {
  static constexpr std::array<std::pair<const char*, const char*>, 16> kParts = {{
      {"pack24", "pack"},
      {"product24", "sparse product"},
      {"residual_norm", "rows"},
      {"head_norm", "rows"},
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
      {"triton", "fused elementwise"},
      {"Memset", "other"},
  }};
  for (const auto& [part, kind] : kParts) {
    if (name.find(part) != std::string::npos) return kind;
  }
  return "other";
}

std::map<std::string, double> time_by_class(const std::function<void()>& run) {
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  const std::set<profiler::ActivityType> activities{profiler::ActivityType::CUDA};
  torch::cuda::synchronize();
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
  run();
  torch::cuda::synchronize();
  const auto result = torch::autograd::profiler::disableProfiler();
  std::map<std::string, double> classes;
  for (const auto& event : result->events()) {
    if (event.deviceType() != c10::DeviceType::CUDA) continue;
    classes[class_of_kernel(event.name())] += static_cast<double>(event.durationNs()) * 1e-6;
  }
  return classes;
}

}  // namespace rtlynx::benchmark
