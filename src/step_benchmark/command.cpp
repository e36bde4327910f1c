// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "step_benchmark/report.h"

namespace rtlynx::step_benchmark {
namespace {

void say(const nlohmann::ordered_json& line) { std::cout << line.dump() << std::endl; }

/// Lines on stdin and stdout that another program waits for: {"ready": true}, then a line for each
/// round that it asks for.
StepEvents turn_events() {
  auto is_first = std::make_shared<bool>(true);
  return {.captured = [](const std::string&) {},
          .may_begin =
              [is_first] {
                if (std::exchange(*is_first, false)) say({{"ready", true}});
                std::string line;
                return static_cast<bool>(std::getline(std::cin, line));
              },
          .finished = [](const StepResult& result) { say(last_round(result)); }};
}

StepEvents progress_events() {
  const auto show = [](const std::string& text) {
    if (isatty(STDERR_FILENO) != 1) return;
    fmt::print(stderr, "\r\033[K{}", text);
    std::fflush(stderr);
  };
  return {.captured = [show](const std::string& variant) { show(variant + " captured"); },
          .may_begin = [] { return true; },
          .finished =
              [show](const StepResult& result) {
                show(fmt::format("round {}", result.variants.front().ms.size()));
              }};
}

}  // namespace

void run_command(const StepOptions& options) {
  std::optional<AtomicFile> json;
  if (!options.json.empty()) json.emplace(options.json);
  const StepResult result = run_step(options, options.turns ? turn_events() : progress_events());
  if (result.variants.front().ms.empty()) {
    fail("bench --step --turns", "a line on stdin for at least one round", "none");
  }
  if (json) {
    json->write(to_json(result).dump(1) + "\n");
    json->commit();
  }
  if (!options.turns) fmt::print("{}", to_text(result));
  refuse_wrong(result);
}

}  // namespace rtlynx::step_benchmark
