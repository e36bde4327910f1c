// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace rtlynx::cli {

/// One line on stderr with a bar, the time per step and the time left. Silent unless stderr is a
/// terminal.
class ProgressBar {
 public:
  ProgressBar(std::string label, std::int64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `note` is shown behind the times.
  void update(std::int64_t finished, const std::string& note = {});

 private:
  std::string label_;
  std::int64_t total_;
  std::int64_t first_ = -1;  // where this run began: a resumed run does not count what it found
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace rtlynx::cli
