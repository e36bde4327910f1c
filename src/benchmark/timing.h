// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "benchmark/device.h"
#include "benchmark/gpu_monitor.h"
#include "benchmark/results.h"

namespace rtlynx::benchmark {

/// Enqueues one call on operand set `set`.
using Call = std::function<void(int set)>;

struct TimerOptions {
  int repeats = 0;
  double sustained_ms = 0;
};

/// Times calls on one stream. All contenders of a comparison are timed together, round robin, so
/// that clocks and temperature are the same for all.
class Timer {
 public:
  Timer(const Stream& stream, const TimerOptions& options, const GpuMonitor& monitor);

  /// Microseconds of each of `repeats` single calls, the L2 filled with other data before each.
  double cold_median(const std::function<void()>& call, int repeats);

  /// Burst: `repeats` cold calls of each. Sustained: three rounds of calls back to back for
  /// `sustained_ms` each. Both walk through the operand sets 0 .. sets - 1.
  std::vector<Timing> time(std::span<const Call> calls, int sets);

  cudaStream_t stream() const { return stream_.get(); }

 private:
  double cold(const std::function<void()>& call);
  double back_to_back(const Call& call, int sets, int count, GpuState* state);

  const Stream& stream_;
  TimerOptions options_;
  const GpuMonitor& monitor_;
  DeviceBuffer eviction_;
  Event begin_, end_;
};

}  // namespace rtlynx::benchmark
