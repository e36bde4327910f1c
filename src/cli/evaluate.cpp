// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/file.h"
#include "study/methods.h"

namespace rtlynx::cli {
namespace {

struct EvaluateArguments {
  ModelOptions model;
  EvaluateOptions evaluate;
  std::string output;
  bool restart = false;
  bool json = false;
};

std::string number(const nlohmann::ordered_json& entry, const char* key, int decimals,
                   double factor = 1) {
  if (!entry.contains(key) || entry[key].is_null()) return "-";
  return fmt::format("{:.{}f}", factor * entry[key].get<double>(), decimals);
}

void print_table(const nlohmann::ordered_json& report) {
  const bool lpips = report.contains("lpips_network");
  fmt::print("{:16} {:14} {:>5} {:>9} {:>6} {:>6} {}{:>7} {:>8} {:>9}\n", "method", "kind", "cost",
             "velocity", "PSNR", "SSIM", lpips ? " LPIPS " : "", "detail", "Frechet", "captions");
  for (const auto& entry : report["methods"]) {
    fmt::print("{:16} {:14} {:>5} {:>9} {:>6} {:>6} {}{:>7} {:>8} {:>7} %\n",
               entry["name"].get<std::string>(), entry["kind"].get<std::string>(),
               number(entry, "relative_cost", 2), number(entry, "velocity_error", 4),
               number(entry, "psnr", 2), number(entry, "ssim", 3),
               lpips ? fmt::format("{:>6} ", number(entry, "lpips", 4)) : "",
               number(entry, "high_frequency_error", 3), number(entry, "frechet_distance", 4),
               number(entry, "caption_accuracy", 1, 100));
  }
}

constexpr const char* kAll = "all";

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Method& method : all_methods()) names.push_back(method.name);
  return names;
}

std::vector<std::string> names_and_all() {
  std::vector<std::string> names = method_names();
  names.emplace_back(kAll);
  return names;
}

// Named by the user, to be kept, or beside the output, to be removed at the end, or none.
std::filesystem::path results_file(const EvaluateArguments& arguments) {
  const auto& named = arguments.evaluate.results;
  if (!named.empty() || arguments.output.empty()) return named;
  return arguments.output + ".partial";
}

[[noreturn]] void fail_interrupted(const std::filesystem::path& results) {
  throw Error("evaluate: interrupted; " +
              (results.empty() ? "nothing was kept, as neither --output nor --results was given"
                               : "the same command goes on from " + results.string()));
}

std::optional<nlohmann::ordered_json> run(Pipeline& pipeline, const EvaluateOptions& options) {
  const InterruptScope scope;
  std::string stage_at_work;
  std::optional<ProgressBar> bar;
  return evaluate_methods(pipeline, options,
                          [&](const std::string& stage, std::int64_t finished, std::int64_t all) {
                            if (stage != stage_at_work) bar.emplace(stage, all);
                            stage_at_work = stage;
                            bar->update(finished);
                            return !scope.interrupted();
                          });
}

void evaluate(const EvaluateArguments& arguments) {
  EvaluateOptions options = arguments.evaluate;
  options.results = results_file(arguments);
  if (!arguments.output.empty()) check_output_folder("--output", arguments.output);
  if (!options.results.empty()) check_output_folder("--results", options.results);
  if (!options.pictures.empty()) check_output_folder("--pictures", options.pictures);
  Pipeline pipeline = arguments.model.load();
  if (!options.pictures.empty()) std::filesystem::create_directories(options.pictures);
  if (arguments.restart) std::filesystem::remove(options.results);
  const auto report = run(pipeline, options);
  if (!report) fail_interrupted(options.results);
  if (!arguments.output.empty()) write_file_atomically(arguments.output, report->dump(2) + "\n");
  if (arguments.evaluate.results.empty()) std::filesystem::remove(options.results);
  if (arguments.json) {
    fmt::print("{}\n", report->dump(2));
  } else {
    print_table(*report);
  }
}

void add_calibration_options(CLI::App& command, CalibrationRun& run) {
  command
      .add_option("--calibration-prompts", run.prompts, "Training captions that methods learn from")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command.add_option("--calibration-seed", run.seed, "Seed of those captions")
      ->capture_default_str();
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  EvaluateOptions& options = arguments->evaluate;
  CLI::App* command = app.add_subcommand(
      "evaluate", "Draw held-out captions by several methods and measure what they cost");
  command->add_option("--prompts", options.prompts, "Number of held-out captions")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command
      ->add_option("--velocity-prompts", options.velocity_prompts,
                   "How many of them also show the velocity's error; 0 is none")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Seed of the list of captions")
      ->capture_default_str();
  command->add_option("--steps", options.steps, "Denoising steps")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--guidance", options.guidance, "Classifier-free guidance; 1 is off")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--batch", options.batch, "Images drawn at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command
      ->add_option("--methods,--modes", options.methods,
                   "Methods to compare, or all; dense, the reference, always is among them")
      ->delimiter(',')
      ->check(CLI::IsMember(names_and_all()))
      ->capture_default_str();
  command
      ->add_option("--compensation", options.compensations,
                   "A file of rtlynx calibrate to compare as well; may be given several times")
      ->allow_extra_args(false);
  add_calibration_options(*command, options.calibration);
  command->add_option("--lpips", options.lpips,
                      "Measure LPIPS with the weights in this file of tools/convert_lpips.py");
  command->add_option("-o,--output", arguments->output, "Write the report as JSON to this file");
  command->add_option("--results", options.results,
                      "Keep the results of finished methods in this file, and go on from it if it "
                      "exists [default: beside --output, until the report is written]");
  command->add_flag("--restart", arguments->restart,
                    "Begin anew instead of going on from kept results");
  command->add_option("--pictures", options.pictures,
                      "Write the first pictures of every method to this folder, for `report`");
  command->add_option("--keep", options.kept_pictures, "How many pictures of every method to write")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print the report as JSON");
  arguments->model.add_to(*command);
  command->footer(
      "Example:\n"
      "  rtlynx evaluate --prompts 100 --methods norm,wanda,sparsegpt+lora -o metrics.json\n"
      "Ctrl-C keeps the methods that are finished; the same command goes on. With --results, "
      "which\n"
      "stays, --methods may be others each time; kept results of other settings are refused.\n"
      "velocity: relative error of the transformer's output along the dense model's steps; PSNR,\n"
      "SSIM, LPIPS and detail (error of the Laplacian) compare with the dense pictures of the same "
      "noise,\n"
      "Frechet with drawn scenes. An image counts for captions if all its items are there with\n"
      "their shape (or word), colour and position, and nothing else is.");
  command->callback([arguments] {
    // Calibration follows the pictures that are evaluated.
    EvaluateArguments& all = *arguments;
    auto& methods = all.evaluate.methods;
    if (std::find(methods.begin(), methods.end(), kAll) != methods.end()) methods = method_names();
    all.evaluate.calibration.steps = all.evaluate.steps;
    all.evaluate.calibration.guidance = all.evaluate.guidance;
    all.evaluate.calibration.batch = all.evaluate.batch;
    evaluate(all);
  });
}

}  // namespace rtlynx::cli
