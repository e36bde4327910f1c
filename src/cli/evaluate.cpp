// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <fmt/format.h>

#include <functional>

#include "cli/commands.h"
#include "cli/draw_pictures.h"
#include "cli/evaluate_arguments.h"
#include "cli/evaluate_prompts.h"
#include "cli/evaluate_report.h"
#include "cli/output.h"
#include "io/terminal.h"
#include "mini/step_time.h"
#include "study/methods.h"

namespace rtlynx::cli {
namespace {

// All that run here; what is left out is said.
std::vector<std::string> all_method_names(const torch::TensorOptions& options) {
  std::vector<std::string> names;
  std::string others;
  for (const Method& method : all_methods()) {
    if (!method.e4m3 || runs_e4m3(options)) {
      names.push_back(method.name);
    } else {
      others += (others.empty() ? "" : ", ") + method.name;
    }
  }
  if (!others.empty()) {
    terminal::say("evaluate: all methods but those in e4m3, which a GPU computes in bf16 alone: " +
                  others);
  }
  return names;
}

void say_duration_of(Pipeline& pipeline, const EvaluateOptions& options,
                     const EvaluationPlan& plan) {
  constexpr std::int64_t kWorthMeasuring = 200;
  if (plan.picture_steps + plan.noise_floor_steps < kWorthMeasuring) return;
  double seconds = static_cast<double>(plan.picture_steps) *
                   seconds_per_step(pipeline, options.batch, options.guidance);
  if (options.noise_floor) {
    const int batch = noise_floor_batch(pipeline, options.batch);
    seconds += static_cast<double>(plan.noise_floor_steps) *
               seconds_per_step_at_once(pipeline, batch, options.guidance);
  }
  const std::int64_t steps = plan.picture_steps + plan.noise_floor_steps;
  say_duration("evaluate", seconds,
               fmt::format("{} methods of {} pictures, {} steps each, {:.2g} s a step; Ctrl-C "
                           "keeps what is finished",
                           plan.methods, options.prompts, options.steps,
                           seconds / static_cast<double>(steps)));
}

EvaluateOptions mini_options(const EvaluateArguments& arguments) {
  EvaluateOptions options = arguments.evaluate;
  if (arguments.wants_all_methods()) {
    options.methods = all_method_names(arguments.model.tensor_options());
  }
  options.seed = arguments.seed.value_or(options.seed);
  options.steps = arguments.steps.value_or(options.steps);
  options.guidance = arguments.guidance.value_or(options.guidance);
  options.batch = arguments.batch.value_or(options.batch);
  options.calibration.guidance = options.guidance;
  options.results = results_file(arguments);
  return options;
}

void evaluate_mini(const EvaluateArguments& arguments) {
  const EvaluateOptions options = mini_options(arguments);
  check_files(arguments);
  Pipeline pipeline = arguments.model.load();
  if (!options.pictures.empty()) make_folder(options.pictures);
  EvaluationWatch watch;
  const auto report = evaluate_methods(
      pipeline, options, std::ref(watch),
      [&](const EvaluationPlan& plan) { say_duration_of(pipeline, options, plan); });
  finish_evaluation(report, arguments);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Draw pictures by several methods and measure what they cost");
  arguments->add_to(*command);
  command->footer(
      "Examples, 20 seconds and a quarter of an hour on two CPU cores, seconds and half a minute "
      "on an H200:\n"
      "  rtlynx evaluate --prompts 4 --velocity-prompts 2 --methods norm -o quick.json\n"
      "  rtlynx evaluate --prompts 100 --methods norm,wanda,sparsegpt+lora -o metrics.json\n"
      "The same of FLUX.1, Qwen-Image or Z-Image, against the dense pictures of your prompts:\n"
      "  rtlynx evaluate --model FLUX.1-dev --prompts-file prompts.txt --methods naive,norm \\\n"
      "      --compensation best.safetensors --pictures pictures -o metrics.json\n"
      "A longer run says what it is going to take before it starts.\n"
      "Ctrl-C keeps the methods that are finished; the same command goes on. With --results, "
      "which\n"
      "stays, --methods may be others each time; kept results of other settings are refused.\n"
      "velocity: relative error of the transformer's output along the dense model's steps; PSNR,\n"
      "SSIM, LPIPS and detail (error of the Laplacian) compare with the dense pictures of the same "
      "noise,\n"
      "Frechet with drawn scenes. An image counts for captions if all its items are there with\n"
      "their shape (or word), colour and position, and nothing else is.");
  command->callback([arguments, command] {
    const bool is_mini = !holds_text_to_image_model(arguments->model.model_folder());
    arguments->check_given(*command, is_mini);
    is_mini ? evaluate_mini(*arguments) : evaluate_with_prompts(*arguments);
  });
}

}  // namespace rtlynx::cli
