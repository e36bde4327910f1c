// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace rtlynx::cli {
namespace {

constexpr int kBarWidth = 24;

}  // namespace

ProgressBar::ProgressBar(std::string label, std::int64_t total)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(total, 1)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::update(std::int64_t finished, const std::string& note) {
  if (!terminal_) return;
  if (first_ < 0) {
    first_ = finished;
    start_ = std::chrono::steady_clock::now();
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  const double per_step =
      finished > first_ ? elapsed.count() / static_cast<double>(finished - first_) : 0.0;
  const int filled = static_cast<int>(kBarWidth * finished / total_);
  fmt::print(stderr, "\r\033[K{} [{}{}] {}/{}", label_, std::string(filled, '='),
             std::string(kBarWidth - filled, ' '), finished, total_);
  if (per_step > 0) {
    fmt::print(stderr, "  {:.3g} s/step, {:.0f} s left", per_step,
               per_step * static_cast<double>(total_ - finished));
  }
  fmt::print(stderr, "{}{}", note.empty() ? "" : "  ", note);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace rtlynx::cli
