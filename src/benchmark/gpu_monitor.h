// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "benchmark/results.h"

namespace rtlynx::benchmark {

/// Clocks, power and temperature of the current device, from the driver's management library.
class GpuMonitor {
 public:
  /// Without the library every reading is empty, and missing() says why.
  GpuMonitor();
  ~GpuMonitor();
  GpuMonitor(const GpuMonitor&) = delete;
  GpuMonitor& operator=(const GpuMonitor&) = delete;

  const std::string& missing() const { return missing_; }
  std::string driver() const;
  GpuState read() const;

 private:
  struct Nvml;
  std::unique_ptr<Nvml> nvml_;
  std::string missing_;
};

}  // namespace rtlynx::benchmark
