// SPDX-License-Identifier: Apache-2.0
#include "benchmark/command.h"

#include <fmt/format.h>

#include <optional>
#include <string>

#include "benchmark/report.h"
#include "benchmark/run.h"
#include "io/file.h"
#include "io/terminal.h"
#include "rtlynx/error.h"

namespace rtlynx::benchmark {
namespace {

void show_progress(int finished, int total, const std::string& at_work) {
  if (finished == total) return terminal::erase_status();
  terminal::draw_status(fmt::format("shape {} of {}: {}", finished + 1, total, at_work));
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
  terminal::show(to_text(result));
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
