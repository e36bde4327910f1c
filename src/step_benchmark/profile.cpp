// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

#include "base/libtorch.h"
#include "step_benchmark/kernel_class.h"

namespace rtlynx::step_benchmark {

namespace profiler = torch::profiler::impl;

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

}  // namespace rtlynx::step_benchmark
