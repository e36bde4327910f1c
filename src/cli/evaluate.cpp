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
#include "io/json.h"
#include "io/terminal.h"
#include "options/number.h"
#include "study/methods.h"
#include "study/step_time.h"

namespace rtlynx::cli {
namespace {

struct EvaluateArguments {
  ModelOptions model;
  EvaluateOptions evaluate;
  std::string output;
  bool json = false;
};

std::string number(const nlohmann::ordered_json& entry, const char* key, int decimals,
                   double factor = 1) {
  if (!entry.contains(key) || entry[key].is_null()) return "-";
  return fmt::format("{:.{}f}", factor * entry[key].get<double>(), decimals);
}

void print_table(const nlohmann::ordered_json& report) {
  const bool lpips = report.contains("lpips_network");
  terminal::print("{:16} {:14} {:>5} {:>9} {:>6} {:>6} {}{:>7} {:>8} {:>9}\n", "method", "kind",
                  "cost", "velocity", "PSNR", "SSIM", lpips ? " LPIPS " : "", "detail", "Frechet",
                  "captions");
  for (const auto& entry : report["methods"]) {
    terminal::print("{:16} {:14} {:>5} {:>9} {:>6} {:>6} {}{:>7} {:>8} {:>7} %\n",
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

void check_files(const EvaluateArguments& arguments, const EvaluateOptions& options) {
  FilePlan files;
  files.read_model(arguments.model.model_folder());
  for (const auto& file : options.compensations) files.read("--compensation", file);
  files.read("--lpips", options.lpips);
  files.write("--output", arguments.output);
  files.write("--results", options.results);
  files.write_folder("--pictures", options.pictures);
  files.write_folder("--results", work_folder(options.results));
  files.check();
}

void say_duration_of(Pipeline& pipeline, const EvaluateOptions& options,
                     const EvaluationPlan& plan) {
  constexpr std::int64_t kWorthMeasuring = 200;
  if (plan.picture_steps < kWorthMeasuring) return;
  const double seconds = seconds_per_step(pipeline, options.batch, options.guidance);
  say_duration(
      "evaluate", static_cast<double>(plan.picture_steps) * seconds,
      fmt::format("{} methods of {} pictures, {} steps each, {:.2g} s a step; Ctrl-C keeps "
                  "what is finished",
                  plan.methods, options.prompts, options.steps, seconds));
}

std::optional<nlohmann::ordered_json> run(Pipeline& pipeline, const EvaluateOptions& options) {
  const InterruptScope scope;
  std::string stage_at_work;
  std::optional<ProgressBar> bar;
  return evaluate_methods(
      pipeline, options,
      [&](const std::string& stage, std::int64_t finished, std::int64_t all) {
        if (stage != stage_at_work) bar.emplace(stage, all);
        stage_at_work = stage;
        bar->update(finished);
        return !scope.interrupted();
      },
      [&](const EvaluationPlan& plan) { say_duration_of(pipeline, options, plan); });
}

void evaluate(const EvaluateArguments& arguments) {
  EvaluateOptions options = arguments.evaluate;
  options.results = results_file(arguments);
  check_files(arguments, options);
  Pipeline pipeline = arguments.model.load();
  if (!options.pictures.empty()) make_folder(options.pictures);
  const auto report = run(pipeline, options);
  if (!report) fail_interrupted(options.results);
  if (!arguments.output.empty()) {
    write_file_atomically(arguments.output, report_text(*report, "evaluate"));
  }
  if (arguments.evaluate.results.empty()) std::filesystem::remove(options.results);
  if (arguments.json) {
    print_report(*report, "evaluate");
  } else {
    print_table(*report);
  }
}

void add_calibration_options(CLI::App& command, CalibrationRun& run) {
  command
      .add_option("--calibration-prompts", run.prompts, "Training captions that methods learn from")
      ->transform(options::whole_number(1, 1000000))
      ->capture_default_str();
  command.add_option("--calibration-seed", run.seed, "Seed of those captions")
      ->transform(options::seed())
      ->capture_default_str();
  command.add_option("--calibration-steps", run.steps, "Denoising steps of their pictures")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  EvaluateOptions& options = arguments->evaluate;
  CLI::App* command = app.add_subcommand(
      "evaluate", "Draw held-out captions by several methods and measure what they cost");
  command->add_option("--prompts", options.prompts, "Number of held-out captions")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command
      ->add_option("--velocity-prompts", options.velocity_prompts,
                   "How many of them also show the velocity's error; 0 is none")
      ->transform(options::whole_number(0, 100000))
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Seed of the list of captions")
      ->transform(options::seed())
      ->capture_default_str();
  command->add_option("--steps", options.steps, "Denoising steps")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
  command->add_option("--guidance", options.guidance, kGuidanceHelp)
      ->transform(options::number(0, 100))
      ->capture_default_str();
  command->add_option("--batch", options.batch, "Images drawn at once")
      ->transform(options::whole_number(1, 4096))
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
  command->add_flag("--restart", options.restart,
                    "Begin anew instead of going on from kept results");
  command->add_flag(
      "--noise-floor", options.noise_floor,
      "Draw each method's pictures again in batches of another size, which only rounds "
      "otherwise: how far a method is from itself");
  command->add_option("--pictures", options.pictures,
                      "Write the first pictures of every method to this folder, for `report`");
  command->add_option("--keep", options.kept_pictures, "How many pictures of every method to write")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print the report as JSON");
  arguments->model.add_to(*command);
  command->footer(
      "Examples, 2 minutes and 45 on two CPU cores, seconds and half a minute on an H200:\n"
      "  rtlynx evaluate --prompts 4 --velocity-prompts 2 --methods norm -o quick.json\n"
      "  rtlynx evaluate --prompts 100 --methods norm,wanda,sparsegpt+lora -o metrics.json\n"
      "A longer run says what it is going to take before it starts.\n"
      "Ctrl-C keeps the methods that are finished; the same command goes on. With --results, "
      "which\n"
      "stays, --methods may be others each time; kept results of other settings are refused.\n"
      "velocity: relative error of the transformer's output along the dense model's steps; PSNR,\n"
      "SSIM, LPIPS and detail (error of the Laplacian) compare with the dense pictures of the same "
      "noise,\n"
      "Frechet with drawn scenes. An image counts for captions if all its items are there with\n"
      "their shape (or word), colour and position, and nothing else is.");
  command->callback([arguments] {
    EvaluateArguments& all = *arguments;
    auto& methods = all.evaluate.methods;
    if (std::find(methods.begin(), methods.end(), kAll) != methods.end()) methods = method_names();
    all.evaluate.calibration.guidance = all.evaluate.guidance;
    evaluate(all);
  });
}

}  // namespace rtlynx::cli
