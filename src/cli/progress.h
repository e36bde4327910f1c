// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "models/load_progress.h"

namespace rtlynx::cli {

/// What a bar counts.
enum class ProgressUnit { steps, bytes };

/// One line on stderr with a bar, the time per step and the time left. Silent where there is no
/// status line (io/terminal.h).
class ProgressBar {
 public:
  ProgressBar(std::string label, std::int64_t total, ProgressUnit unit = ProgressUnit::steps);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `note` is shown behind the times.
  void update(std::int64_t finished, const std::string& note = {});

 private:
  std::string amount(std::int64_t count) const;

  std::string label_;
  std::int64_t total_;
  ProgressUnit unit_;
  std::int64_t first_ = -1;  // where this run began: a resumed run does not count what it found
  std::chrono::steady_clock::time_point start_;
};

/// A bar for the reading of a checkpoint, or other steps that are counted, made with its first
/// piece and gone with its last.
LoadProgress loading_bar(const std::string& label, ProgressUnit unit = ProgressUnit::bytes);

/// "40 s", "26 min", "3.5 h".
std::string duration_text(double seconds);

/// Says how long work is going to take, if that is more than a minute: "evaluate: about 26 min here
/// (...)". For before the work.
void say_duration(const std::string& command, double seconds, const std::string& work);

}  // namespace rtlynx::cli
