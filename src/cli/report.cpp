// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "cli/commands.h"
#include "cli/output.h"
#include "io/file.h"
#include "io/json.h"
#include "io/png.h"
#include "io/text.h"

namespace rtlynx::cli {
namespace {

struct ReportArguments {
  std::string evaluation;
  std::string analysis;
  std::string pictures;
  std::string output = "report.html";
};

// "<method>-0000.png" and so on, as evaluate --pictures writes them.
std::vector<std::filesystem::path> find_pictures(const std::filesystem::path& folder,
                                                 const std::string& method) {
  std::vector<std::filesystem::path> paths;
  if (folder.empty() || !is_plain_file_name(method)) return paths;
  while (true) {
    const auto path = folder / fmt::format("{}-{:04}.png", method, paths.size());
    if (!std::filesystem::exists(path)) return paths;
    paths.push_back(path);
  }
}

void report(const ReportArguments& arguments) {
  ReportParts parts{.evaluation = read_json_file(arguments.evaluation),
                    .analysis = nullptr,
                    .analysis_file = arguments.analysis,
                    .pictures = {}};
  FilePlan files;
  files.read("the evaluation", arguments.evaluation);
  files.read("--analysis", arguments.analysis);
  files.write("--output", arguments.output);
  std::map<std::string, std::vector<std::filesystem::path>> pictures;
  for (const std::string& method : reported_methods(parts.evaluation, arguments.evaluation)) {
    pictures[method] = find_pictures(arguments.pictures, method);
    for (const auto& path : pictures[method]) files.read("--pictures", path);
  }
  files.check();
  if (!arguments.analysis.empty()) parts.analysis = read_json_file(arguments.analysis);
  for (const auto& [method, paths] : pictures) {
    for (const auto& path : paths) parts.pictures[method].push_back(read_png(path));
  }
  write_file_atomically(arguments.output, make_report(parts, arguments.evaluation));
}

}  // namespace

void add_report(CLI::App& app) {
  auto arguments = std::make_shared<ReportArguments>();
  CLI::App* command =
      app.add_subcommand("report", "Make one self-contained HTML page of an evaluation");
  command->add_option("evaluation", arguments->evaluation, "JSON file of `rtlynx evaluate`")
      ->required();
  command->add_option("--analysis", arguments->analysis, "JSON file of `rtlynx analyze`");
  command
      ->add_option("--pictures", arguments->pictures,
                   "Folder that `rtlynx evaluate --pictures` wrote")
      ->check(CLI::ExistingDirectory);
  command->add_option("-o,--output", arguments->output, "The page")->capture_default_str();
  command->footer(
      "Example:\n"
      "  rtlynx evaluate --prompts 100 --methods norm,wanda -o metrics.json --pictures pictures\n"
      "  rtlynx analyze -o analysis.json\n"
      "  rtlynx report metrics.json --analysis analysis.json --pictures pictures -o report.html");
  command->callback([arguments] { report(*arguments); });
}

}  // namespace rtlynx::cli
