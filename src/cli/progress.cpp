// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "io/memory.h"
#include "io/terminal.h"

namespace rtlynx::cli {
namespace {

constexpr int kBarWidth = 24;
constexpr double kMinute = 60, kHour = 3600;

}  // namespace

ProgressBar::ProgressBar(std::string label, std::int64_t total, ProgressUnit unit)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(total, 1)),
      unit_(unit),
      start_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() { terminal::keep_status(); }

void ProgressBar::update(std::int64_t finished, const std::string& note) {
  if (!terminal::has_status()) return;
  if (first_ < 0) {
    first_ = finished;
    start_ = std::chrono::steady_clock::now();
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  const double per_step =
      finished > first_ ? elapsed.count() / static_cast<double>(finished - first_) : 0.0;
  const double share = static_cast<double>(finished) / static_cast<double>(total_);
  const auto filled = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * kBarWidth);
  std::string line =
      fmt::format("{} [{}{}] {}/{}", label_, std::string(filled, '='),
                  std::string(kBarWidth - filled, ' '), amount(finished), amount(total_));
  if (per_step > 0) {
    line += unit_ == ProgressUnit::steps ? fmt::format("  {:.3g} s/step", per_step)
                                         : fmt::format("  {:.2f} GB/s", 1e-9 / per_step);
    line +=
        fmt::format(", {} left", duration_text(per_step * static_cast<double>(total_ - finished)));
  }
  terminal::draw_status(line + (note.empty() ? "" : "  ") + note);
}

std::string ProgressBar::amount(std::int64_t count) const {
  return unit_ == ProgressUnit::steps ? fmt::format("{}", count)
                                      : memory_text(static_cast<std::uint64_t>(count));
}

LoadProgress loading_bar(const std::string& label, ProgressUnit unit) {
  auto bar = std::make_shared<std::optional<ProgressBar>>();
  return [bar, label, unit](std::uint64_t finished, std::uint64_t all) {
    if (!*bar) bar->emplace(label, static_cast<std::int64_t>(all), unit);
    (*bar)->update(static_cast<std::int64_t>(finished));
    if (finished == all) bar->reset();
  };
}

std::string duration_text(double seconds) {
  if (seconds < 2 * kMinute) return fmt::format("{:.0f} s", seconds);
  if (seconds < 2 * kHour) return fmt::format("{:.0f} min", seconds / kMinute);
  return fmt::format("{:.1f} h", seconds / kHour);
}

void say_duration(const std::string& command, double seconds, const std::string& work) {
  if (seconds < kMinute) return;
  terminal::say(fmt::format("{}: about {} here, for {}", command, duration_text(seconds), work));
}

}  // namespace rtlynx::cli
