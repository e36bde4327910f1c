// SPDX-License-Identifier: Apache-2.0
#include "benchmark/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "benchmark/report.h"
#include "benchmark/run.h"
#include "io/file.h"
#include "rtlynx/error.h"

namespace rtlynx::benchmark {
namespace {

void show_progress(int finished, int total, const std::string& at_work) {
  if (isatty(STDERR_FILENO) != 1) return;
  fmt::print(stderr, "\r\033[K");
  if (finished < total) fmt::print(stderr, "shape {} of {}: {}", finished + 1, total, at_work);
  std::fflush(stderr);
}

// Opened before the work, so that a folder that does not exist is said at once.
std::optional<AtomicFile> open_if_wanted(const std::string& path) {
  return path.empty() ? std::nullopt : std::optional<AtomicFile>(std::in_place, path);
}

}  // namespace

void run_command(const Options& options) {
  std::optional<AtomicFile> json = open_if_wanted(options.json);
  std::optional<AtomicFile> plot = open_if_wanted(options.plot);
  const RunResult result = run_benchmark(options, show_progress);
  fmt::print("{}", to_text(result));
  if (json) {
    json->write(to_json(result).dump(2) + "\n");
    json->commit();
  }
  if (plot) {
    plot->write(to_svg(result));
    plot->commit();
  }
  if (!result.failures.empty()) throw Error(fmt::format("{}", fmt::join(result.failures, "\n")));
}

}  // namespace rtlynx::benchmark
