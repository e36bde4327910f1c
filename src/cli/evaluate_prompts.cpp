// SPDX-License-Identifier: Apache-2.0
#include "cli/evaluate_prompts.h"

#include <fmt/format.h>

#include <chrono>
#include <limits>
#include <set>

#include "base/error.h"
#include "cli/evaluate_report.h"
#include "cli/output.h"
#include "cli/prompts.h"
#include "cli/treatment.h"
#include "io/terminal.h"
#include "io/text.h"
#include "study/evaluate_prompts.h"
#include "study/methods.h"

namespace rtlynx::cli {
namespace {

void add_prompts(const EvaluateArguments& arguments, PictureRequest& request) {
  const std::uint64_t first = arguments.seed.value_or(0);
  const std::vector<Prompt> prompts = read_prompts(arguments.prompts_file);
  if (prompts.empty()) {
    throw UsageError("--prompts-file: required at least one prompt, got none in " +
                     in_quotes(arguments.prompts_file));
  }
  if (prompts.size() - 1 > std::numeric_limits<std::uint64_t>::max() - first) {
    throw UsageError(fmt::format(
        "--seed: required seeds up to 2^64 - 1 for all {} pictures, got {} for the first",
        prompts.size(), first));
  }
  for (const Prompt& prompt : prompts) {
    if (prompt.size) {
      throw UsageError(prompt.where +
                       ", size: required none, as all pictures have --size, got one");
    }
    request.seeds.push_back(prompt.seed.value_or(first + request.prompts.size()));
    request.prompts.push_back(prompt.text);
  }
}

PictureRequest request_of(const EvaluateArguments& arguments) {
  PictureRequest request;
  request.negative = arguments.negative;
  request.true_cfg = arguments.true_cfg;
  request.guidance = arguments.guidance;
  request.steps = arguments.steps;
  request.batch = arguments.batch.value_or(1);
  if (!arguments.size.empty()) {
    const PictureSize size = parse_size(arguments.size, "--size");
    request.width = size.width;
    request.height = size.height;
  }
  add_prompts(arguments, request);
  return request;
}

std::vector<std::string> methods_of(const EvaluateArguments& arguments) {
  if (!arguments.wants_all_methods()) return arguments.evaluate.methods;
  std::vector<std::string> names;
  for (const Method& method : all_methods()) {
    if (method.mode) names.push_back(method.name);
  }
  terminal::say(
      "evaluate: all methods that need not learn; others come from rtlynx calibrate, as "
      "--compensation");
  return names;
}

PromptEvaluationOptions prompt_options(const EvaluateArguments& arguments) {
  const EvaluateOptions& given = arguments.evaluate;
  return {.request = request_of(arguments),
          .methods = methods_of(arguments),
          .compensations = given.compensations,
          .lpips = given.lpips,
          .noise_floor = given.noise_floor,
          .results = results_file(arguments),
          .restart = given.restart,
          .pictures = given.pictures,
          .kept_pictures = given.kept_pictures};
}

// As generate sets them.
LayerSetters setters_for(const std::vector<LayerGroup>& groups, const SparseChoice& choice) {
  return {.of_mode =
              [groups, choice](torch::nn::Module& transformer, LinearMode mode) {
                of_mode(mode).set_layers(transformer, groups, choice, /*updates=*/{});
              },
          .of_file =
              [groups, choice](torch::nn::Module& transformer, const std::filesystem::path& file) {
                of_file(file.string(), /*with_dense=*/false)
                    .set_layers(transformer, groups, choice, /*updates=*/{});
              }};
}

/// Of the request's batches, unless every layer that a method names is to be sparse.
SparseChoice choice_for(const EvaluateArguments& arguments, const PromptedModel& model,
                        const TextToImagePipeline& pipeline, const PictureRequest& request) {
  if (arguments.force) return {};
  const PictureSettings settings = pipeline.settings_for(request);
  const StreamTokens tokens = pipeline.model().facts().tokens(settings.width, settings.height);
  return choose_by_gain(
      model.tensors, {.image = request.batch * tokens.image, .text = request.batch * tokens.text});
}

std::set<std::string> all_prompts(const PictureRequest& request, const PictureSettings& settings) {
  std::set<std::string> prompts(request.prompts.begin(), request.prompts.end());
  if (settings.guided()) prompts.insert(*settings.negative);
  return prompts;
}

/// Says how long it is going to take, once the first steps of pictures have shown it.
class Forecast {
 public:
  void plan(const EvaluationPlan& plan) { plan_ = plan; }

  void saw(const std::string& stage, std::int64_t finished, std::int64_t all) {
    constexpr std::int64_t kFirst = 1, kLast = 3;  // the step before them takes longer
    if (said_ || !stage.ends_with(": pictures")) return;
    const auto now = std::chrono::steady_clock::now();
    if (finished == kFirst) start_ = now;
    if (finished != kLast) return;
    said_ = true;
    const std::chrono::duration<double> elapsed = now - start_;
    const double seconds = elapsed.count() / (kLast - kFirst);
    const std::int64_t drawn = plan_.noise_floor_steps > 0 ? 2 : 1;
    say_duration("evaluate", seconds * static_cast<double>(all * plan_.methods * drawn),
                 fmt::format("{} methods of {} steps each, {:.2g} s a step; Ctrl-C keeps the "
                             "methods that are finished",
                             plan_.methods, all * drawn, seconds));
  }

 private:
  EvaluationPlan plan_;
  std::chrono::steady_clock::time_point start_;
  bool said_ = false;
};

}  // namespace

void evaluate_with_prompts(const EvaluateArguments& arguments) {
  const PromptEvaluationOptions options = prompt_options(arguments);
  check_files(arguments);
  arguments.model.set_threads();
  PromptedModel model{.folder = arguments.model.model_folder(),
                      .tensors = arguments.model.tensor_options(),
                      .sparse_layers = {},
                      .setters = {}};
  TextToImagePipeline pipeline(model.folder, model.tensors);
  const SparseChoice choice = choice_for(arguments, model, pipeline, options.request);
  if (choice) model.sparse_layers = "those that gain on this GPU";
  model.setters = setters_for(pipeline.model().groups(), choice);
  say_what_is_cut(pipeline.model(),
                  all_prompts(options.request, pipeline.settings_for(options.request)));
  if (!options.pictures.empty()) make_folder(options.pictures);
  EvaluationWatch watch;
  Forecast forecast;
  const auto report = evaluate_prompts(
      pipeline, model, options,
      [&](const std::string& stage, std::int64_t finished, std::int64_t all) {
        forecast.saw(stage, finished, all);
        return watch(stage, finished, all);
      },
      [&](const EvaluationPlan& plan) { forecast.plan(plan); });
  finish_evaluation(report, arguments);
}

}  // namespace rtlynx::cli
