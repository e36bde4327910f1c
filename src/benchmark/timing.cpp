// SPDX-License-Identifier: Apache-2.0
#include "benchmark/timing.h"

#include <algorithm>
#include <cmath>

namespace rtlynx::benchmark {
namespace {

constexpr std::size_t kEvictionBytes = std::size_t{256} << 20;
constexpr int kRounds = 3;

std::optional<double> median_of(const std::vector<std::optional<double>>& values) {
  std::vector<double> known;
  for (const auto& value : values) {
    if (value) known.push_back(*value);
  }
  return known.empty() ? std::nullopt : std::optional(spread_of(std::move(known)).median);
}

// What the rounds of one contender gave.
struct Rounds {
  std::vector<double> microseconds;
  std::vector<std::optional<double>> sm_mhz, watts;
};

}  // namespace

Timer::Timer(const Stream& stream, const TimerOptions& options, const GpuMonitor& monitor)
    : stream_(stream), options_(options), monitor_(monitor), eviction_(kEvictionBytes) {}

double Timer::cold(const std::function<void()>& call) {
  // While the memory is being written the host enqueues the call: its launch costs no time here.
  check_cuda(cudaMemsetAsync(eviction_.data(), 0x5a, eviction_.bytes(), stream()),
             "cudaMemsetAsync");
  begin_.record(stream());
  call();
  end_.record(stream());
  end_.synchronize();
  return end_.microseconds_since(begin_);
}

double Timer::cold_median(const std::function<void()>& call, int repeats) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(cold(call));
  return spread_of(std::move(times)).median;
}

double Timer::back_to_back(const Call& call, int sets, int count, GpuState* state) {
  begin_.record(stream());
  for (int i = 0; i < count; ++i) call(i % sets);
  end_.record(stream());
  *state = monitor_.read();  // the device is still at work
  end_.synchronize();
  return end_.microseconds_since(begin_) / count;
}

std::vector<Timing> Timer::time(std::span<const Call> calls, int sets) {
  for (const Call& call : calls) call(0);  // loads and configures what is done only once
  stream_.synchronize();

  std::vector<std::vector<double>> burst(calls.size());
  for (int repeat = 0; repeat < options_.repeats; ++repeat) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      burst[i].push_back(cold([&] { calls[i](repeat % sets); }));
    }
  }
  std::vector<Timing> timings(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) timings[i].burst = spread_of(burst[i]);

  std::vector<Rounds> rounds(calls.size());
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const double wanted = 1e3 * options_.sustained_ms / timings[i].burst.median;
      const int count = std::max(1, static_cast<int>(std::ceil(wanted)));
      GpuState state;
      rounds[i].microseconds.push_back(back_to_back(calls[i], sets, count, &state));
      rounds[i].sm_mhz.push_back(state.sm_mhz);
      rounds[i].watts.push_back(state.watts);
    }
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    timings[i].sustained = spread_of(rounds[i].microseconds);
    timings[i].sm_mhz = median_of(rounds[i].sm_mhz);
    timings[i].watts = median_of(rounds[i].watts);
  }
  return timings;
}

}  // namespace rtlynx::benchmark
