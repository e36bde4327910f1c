// SPDX-License-Identifier: Apache-2.0
#include "benchmark/command.h"

#include <fmt/format.h>

#include <filesystem>

#include "benchmark/report.h"
#include "benchmark/run.h"
#include "benchmark/tuning.h"
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

// Its folder may have to be made first.
void check_tune_cache(const std::filesystem::path& path) {
  gpu::TuneCache::load(path);
  if (std::filesystem::is_directory(path.parent_path())) check_writable(path);
}

}  // namespace

void run_command(const Options& options) {
  std::optional<AtomicFile> json = open_if_wanted(options.json);
  std::optional<AtomicFile> plot = open_if_wanted(options.plot);
  // A tuning file that cannot be read or written is said at once, too.
  if (options.tune) check_tune_cache(gpu::TuneCache::default_path());
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
  if (options.tune) keep_fastest(result, gpu::TuneCache::default_path());
  if (!result.failures.empty()) throw Error(fmt::format("{}", fmt::join(result.failures, "\n")));
}

}  // namespace rtlynx::benchmark
