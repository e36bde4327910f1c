// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace rtlynx::cli {

/// One line on stderr with a bar, the time per step and the time left. Silent where there is no
/// status line (io/terminal.h).
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
  std::chrono::steady_clock::time_point start_;
};

/// "40 s", "26 min", "3.5 h".
std::string duration_text(double seconds);

/// Says how long work is going to take, if that is more than a minute: "evaluate: about 26 min here
/// (...)". For before the work.
void say_duration(const std::string& command, double seconds, const std::string& work);

}  // namespace rtlynx::cli
