// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <fmt/format.h>

#include <optional>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/file.h"

namespace rtlynx::cli {
namespace {

struct EvaluateArguments {
  ModelOptions model;
  EvaluateOptions evaluate;
  std::string output;
  bool json = false;
};

void print_table(const nlohmann::ordered_json& report) {
  for (const auto& [name, entry] : report["modes"].items()) {
    fmt::print("{}\n", name);
    for (const auto& [key, value] : entry.items()) {
      if (value.is_number()) fmt::print("  {:22} {:8.3f}\n", key, value.get<double>());
    }
  }
}

void evaluate(const EvaluateArguments& arguments) {
  if (!arguments.output.empty()) check_output_folder("--output", arguments.output);
  Pipeline pipeline = arguments.model.load();
  std::string mode_at_work;
  std::optional<ProgressBar> bar;
  const nlohmann::ordered_json report =
      evaluate_modes(pipeline, arguments.evaluate, [&](const std::string& mode, int finished) {
        if (mode != mode_at_work) bar.emplace(mode, arguments.evaluate.prompts);
        mode_at_work = mode;
        bar->update(finished);
      });
  bar.reset();
  if (!arguments.output.empty()) write_file_atomically(arguments.output, report.dump(2) + "\n");
  if (arguments.json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    print_table(report);
  }
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  EvaluateOptions& options = arguments->evaluate;
  CLI::App* command = app.add_subcommand(
      "evaluate", "Draw held-out captions in several modes and check the pictures");
  command->add_option("--prompts", options.prompts, "Number of held-out captions")
      ->check(CLI::Range(1, 100000))
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
  command->add_option("--modes", options.modes, "Modes to draw; dense is the reference")
      ->delimiter(',')
      ->check(CLI::IsMember({"dense", "naive", "norm"}))
      ->capture_default_str();
  command->add_option("-o,--output", arguments->output, "Write the report as JSON to this file");
  command->add_flag("--json", arguments->json, "Print the report as JSON");
  arguments->model.add_to(*command);
  command->footer(
      "Example:\n"
      "  rtlynx evaluate --prompts 100 --modes dense,norm -o metrics.json\n"
      "An image counts for caption_accuracy_* if all its items are there with their shape (or\n"
      "word), colour and position, and nothing else is.");
  command->callback([arguments] { evaluate(*arguments); });
}

}  // namespace rtlynx::cli
