// SPDX-License-Identifier: Apache-2.0
#include "cli/evaluate_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "cli/output.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"

namespace rtlynx::cli {
namespace {

struct Column {
  const char* title;
  const char* key;
  int width;
  int decimals;
  double factor = 1;
  const char* unit = "";
};

constexpr Column kColumns[] = {{"cost", "relative_cost", 5, 2},
                               {"velocity", "velocity_error", 9, 4},
                               {"PSNR", "psnr", 6, 2},
                               {"SSIM", "ssim", 6, 3},
                               {"LPIPS", "lpips", 6, 4},
                               {"detail", "high_frequency_error", 7, 3},
                               {"Frechet", "frechet_distance", 8, 4},
                               {"captions", "caption_accuracy", 9, 1, 100, " %"}};

std::string cell(const nlohmann::ordered_json& entry, const Column& column) {
  std::string text = "-";
  if (entry.contains(column.key) && !entry[column.key].is_null()) {
    text = fmt::format("{:.{}f}", column.factor * entry[column.key].get<double>(), column.decimals);
  }
  return fmt::format(" {:>{}}", text + column.unit, column.width);
}

// Columns that no method has were not measured.
void print_table(const nlohmann::ordered_json& report) {
  const auto& methods = report["methods"];
  const auto was_measured = [&](const Column& column) {
    return std::any_of(methods.begin(), methods.end(),
                       [&](const auto& entry) { return entry.contains(column.key); });
  };
  std::string head = fmt::format("{:16} {:14}", "method", "kind");
  for (const Column& column : kColumns) {
    if (was_measured(column)) head += fmt::format(" {:>{}}", column.title, column.width);
  }
  terminal::print("{}\n", head);
  for (const auto& entry : methods) {
    std::string row = fmt::format("{:16} {:14}", entry["name"].get<std::string>(),
                                  entry["kind"].get<std::string>());
    for (const Column& column : kColumns) {
      if (was_measured(column)) row += cell(entry, column);
    }
    terminal::print("{}\n", row);
  }
}

}  // namespace

std::filesystem::path results_file(const EvaluateArguments& arguments) {
  const auto& named = arguments.evaluate.results;
  if (!named.empty() || arguments.output.empty()) return named;
  return arguments.output + ".partial";
}

void check_files(const EvaluateArguments& arguments) {
  const EvaluateOptions& options = arguments.evaluate;
  const std::filesystem::path results = results_file(arguments);
  FilePlan files;
  files.read_model(arguments.model.model_folder());
  for (const auto& file : options.compensations) files.read("--compensation", file);
  files.read("--lpips", options.lpips);
  if (arguments.prompts_file != "-") files.read("--prompts-file", arguments.prompts_file);
  files.write("--output", arguments.output);
  files.write("--results", results);
  files.write_folder("--pictures", options.pictures);
  files.write_folder("--results", work_folder(results));
  files.check();
}

bool EvaluationWatch::operator()(const std::string& stage, std::int64_t finished,
                                 std::int64_t all) {
  if (stage != stage_) bar_.emplace(stage, all);
  stage_ = stage;
  bar_->update(finished);
  return !scope_.interrupted();
}

void finish_evaluation(const std::optional<nlohmann::ordered_json>& report,
                       const EvaluateArguments& arguments) {
  const std::filesystem::path results = results_file(arguments);
  if (!report) {
    throw Error("evaluate: interrupted; " +
                (results.empty() ? "nothing was kept, as neither --output nor --results was given"
                                 : "the same command goes on from " + results.string()));
  }
  if (!arguments.output.empty()) {
    write_file_atomically(arguments.output, report_text(*report, "evaluate"));
  }
  if (arguments.evaluate.results.empty()) std::filesystem::remove(results);
  if (arguments.json) {
    print_report(*report, "evaluate");
  } else {
    print_table(*report);
  }
}

}  // namespace rtlynx::cli
