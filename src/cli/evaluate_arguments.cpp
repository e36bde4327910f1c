// SPDX-License-Identifier: Apache-2.0
#include "cli/evaluate_arguments.h"

#include <algorithm>
#include <initializer_list>

#include "base/error.h"
#include "cli/sparse_choice.h"
#include "options/number.h"
#include "study/methods.h"

namespace rtlynx::cli {
namespace {

std::vector<std::string> names_and_all() {
  std::vector<std::string> names;
  for (const Method& method : all_methods()) names.push_back(method.name);
  names.emplace_back(kAllMethods);
  return names;
}

void add_mini_pictures(CLI::App& command, EvaluateOptions& options) {
  command.add_option("--prompts", options.prompts, "lynx-mini: number of held-out captions")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command
      .add_option("--velocity-prompts", options.velocity_prompts,
                  "lynx-mini: how many of them also show the velocity's error; 0 is none")
      ->transform(options::whole_number(0, 100000))
      ->capture_default_str();
  command
      .add_option("--velocity-stride", options.velocity_stride,
                  "lynx-mini: of each of these at one step in so many, of the next a step earlier; "
                  "1 is all, and narrows the interval")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
}

void add_prompts(CLI::App& command, EvaluateArguments& arguments) {
  command.add_option("--prompts-file", arguments.prompts_file,
                     "Model of diffusers: what to draw, as generate reads it, a prompt per line or "
                     "JSON lines with prompt and seed; - is standard input");
  command.add_option("--size", arguments.size,
                     "Model of diffusers: WIDTHxHEIGHT in pixels [default: as trained]");
  command.add_option("--negative", arguments.negative,
                     "Model of diffusers: what not to draw, with --true-cfg; twice the work");
  command
      .add_option("--true-cfg", arguments.true_cfg,
                  "Model of diffusers: guidance away from --negative; 1 is off [default: its own]")
      ->transform(options::number(1, 100));
}

void add_drawing(CLI::App& command, EvaluateArguments& arguments) {
  command
      .add_option("--seed", arguments.seed,
                  "Seed of the list of captions [default: 2026]; with --prompts-file of the first "
                  "picture, the next has the next, unless its line has one [default: 0]")
      ->transform(options::seed());
  command.add_option("--steps", arguments.steps, "Denoising steps [default: 28, or the model's]")
      ->transform(options::whole_number(1, 1000));
  command
      .add_option("--guidance", arguments.guidance,
                  std::string(kGuidanceHelp) + " [default: 4, or the model's]")
      ->transform(options::number(0, 100));
  command
      .add_option("--batch", arguments.batch,
                  "Images drawn at once [default: 32, or 1 with --prompts-file]")
      ->transform(options::whole_number(1, 4096));
}

void add_methods(CLI::App& command, EvaluateOptions& options) {
  command
      .add_option("--methods,--modes", options.methods,
                  "Methods to compare, or all; dense, the reference, always is among them. With "
                  "--prompts-file naive and norm: others learn, and come as --compensation")
      ->delimiter(',')
      ->check(CLI::IsMember(names_and_all()))
      ->capture_default_str();
  command
      .add_option("--compensation", options.compensations,
                  "A file of rtlynx calibrate to compare as well; may be given several times")
      ->allow_extra_args(false);
}

void add_layers(CLI::App& command, EvaluateArguments& arguments) {
  command.add_flag("--force", arguments.force, std::string("With --prompts-file. ") + kForceHelp);
}

void add_calibration(CLI::App& command, EvaluateOptions& options) {
  CalibrationRun& run = options.calibration;
  command
      .add_option("--calibration-prompts", run.prompts,
                  "lynx-mini: training captions that methods learn from")
      ->transform(options::whole_number(1, 1000000))
      ->capture_default_str();
  command.add_option("--calibration-seed", run.seed, "lynx-mini: seed of those captions")
      ->transform(options::seed())
      ->capture_default_str();
  command
      .add_option("--calibration-steps", run.steps,
                  "lynx-mini: denoising steps of their pictures; rtlynx calibrate takes 14")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
  command
      .add_option("--calibration-rows", options.calibration_rows,
                  "lynx-mini: tokens, at random, of every input of 8 pictures and a step")
      ->transform(options::whole_number(1, 1000000000))
      ->capture_default_str();
}

void add_results(CLI::App& command, EvaluateArguments& arguments) {
  EvaluateOptions& options = arguments.evaluate;
  command.add_option("-o,--output", arguments.output, "Write the report as JSON to this file");
  command.add_option("--results", options.results,
                     "Keep the results of finished methods in this file, and go on from it if it "
                     "exists [default: beside --output, until the report is written]");
  command.add_flag("--restart", options.restart,
                   "Begin anew instead of going on from kept results");
  command.add_flag(
      "--noise-floor", options.noise_floor,
      "Draw each method's pictures again in batches of another size, which only rounds "
      "otherwise: how far a method is from itself");
  command.add_option("--pictures", options.pictures,
                     "Write the first pictures of every method to this folder, for `report`");
  command.add_option("--keep", options.kept_pictures, "How many pictures of every method to write")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command.add_flag("--json", arguments.json, "Print the report as JSON");
}

}  // namespace

void EvaluateArguments::add_to(CLI::App& command) {
  add_prompts(command, *this);
  add_mini_pictures(command, evaluate);
  add_drawing(command, *this);
  add_methods(command, evaluate);
  add_layers(command, *this);
  add_calibration(command, evaluate);
  command.add_option("--lpips", evaluate.lpips,
                     "Measure LPIPS with the weights in this file of tools/convert_lpips.py");
  add_results(command, *this);
  model.add_to(command);
}

void EvaluateArguments::check_given(const CLI::App& command, bool is_mini) const {
  const auto refuse_any = [&](std::initializer_list<const char*> names, const char* reason) {
    for (const char* name : names) {
      if (command.count(name) > 0) throw UsageError(std::string(name) + reason);
    }
  };
  if (is_mini) {
    refuse_any({"--prompts-file", "--size", "--negative", "--true-cfg", "--force"},
               ": required a model of diffusers, got lynx-mini");
    return;
  }
  refuse_any({"--prompts", "--velocity-prompts", "--velocity-stride", "--calibration-prompts",
              "--calibration-seed", "--calibration-steps", "--calibration-rows"},
             ": required lynx-mini, got another model");
  if (prompts_file.empty()) {
    throw UsageError("evaluate: required --prompts-file with a model of diffusers, got none");
  }
}

bool EvaluateArguments::wants_all_methods() const {
  const auto& methods = evaluate.methods;
  return std::find(methods.begin(), methods.end(), kAllMethods) != methods.end();
}

}  // namespace rtlynx::cli
