// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rtlynx::testing {

/// body(row) for each row, by all cores: the specifications are plain loops.
template <typename Body>
void in_parallel(std::int64_t rows, Body body) {
  const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  std::atomic<std::int64_t> next = 0;
  const auto work = [&] {
    for (std::int64_t row = next++; row < rows; row = next++) body(row);
  };
  std::vector<std::thread> helpers;
  for (std::int64_t i = 1; i < std::min(cores, rows); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace rtlynx::testing
