// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "models/recipe.h"
#include "study/choose_layers.h"
#include "study/train_low_rank.h"

namespace rtlynx::cli {
namespace {

const std::map<std::string, LowRankInputs> kTrainingInputs = {
    {"scenes", LowRankInputs::scenes}, {"trajectories", LowRankInputs::trajectories}};
constexpr int kChoicePrompts = 4;
constexpr int kChoiceSteps = 7;

struct CalibrateArguments {
  ModelOptions model;
  CalibrateOptions calibrate;
  TrainLowRankOptions train;
  std::string start;
  std::string choose;
  double budget = 0.05;
  std::string method = "joint";
  std::string transform = "none";
  std::optional<bool> norm;
  std::int64_t rank = 0;
  std::int64_t memory = 32;
  std::string output = "compensation.safetensors";
  bool json = false;
};

// What the options leave open: least squares brings back the energy by itself, so that s, which
// differs from token to token, is noise to it.
bool norm_by_default(CompensationMethod method) { return method == CompensationMethod::low_rank; }

bool is_trained(const CalibrateArguments& arguments) {
  return arguments.method == "sgd" || arguments.method == "distill";
}

std::int64_t rank_for(const CalibrateArguments& arguments, const Pipeline& pipeline) {
  return arguments.rank > 0 ? arguments.rank
                            : default_rank(pipeline.transformer->config().hidden_dim());
}

CalibrateOptions complete(const CalibrateArguments& arguments, const Pipeline& pipeline) {
  CalibrateOptions options = arguments.calibrate;
  options.memory = arguments.memory << 30;
  options.solve.method = compensation_method_from_string(arguments.method);
  options.solve.norm = arguments.norm.value_or(norm_by_default(options.solve.method));
  options.solve.rank = rank_for(arguments, pipeline);
  options.transform = transform_choice_from_string(arguments.transform);
  return options;
}

/// What an unfinished run goes on from: the file that the user named, to be kept, or one beside the
/// output that is removed at the end.
struct ResumeFile {
  std::filesystem::path path;
  bool keep = false;

  ResumeFile(const std::filesystem::path& named, const std::string& output)
      : path(named.empty() ? std::filesystem::path(output + ".partial") : named),
        keep(!named.empty()) {
    check_output_folder("--moments", path);
  }
  [[noreturn]] void fail_interrupted() const {
    throw Error("calibrate: interrupted; the same command goes on from " + path.string());
  }
  void finish(const std::vector<std::filesystem::path>& files) const {
    if (keep) return;
    for (const auto& file : files) std::filesystem::remove(file);
  }
};

void print_layers(const CalibrateResult& result) {
  fmt::print("{:44} {:>5} {:>5} {:>9} {:>9} {:>9}\n", "layer", "in", "out", "without", "with",
             "limit");
  for (const CalibratedLayer& layer : result.layers) {
    fmt::print("{:44} {:5} {:5} {:9.4f} {:9.4f} {:9.4f}\n", layer.name, layer.in_features,
               layer.out_features, layer.solution.error_before, layer.solution.error,
               std::sqrt(layer.solution.unrecoverable));
  }
  fmt::print(
      "Relative errors of the outputs over the calibration's tokens, without and with\n"
      "compensation; limit: what refit and low rank together cannot get below.\n");
}

CalibrateResult run(Pipeline& pipeline, const CalibrateOptions& options) {
  const InterruptScope scope;
  std::optional<ProgressBar> bar;
  int pass = 0;
  return calibrate(pipeline, options, [&](const CalibrateProgress& progress) {
    if (progress.pass != pass) {
      bar.emplace(fmt::format("pass {}/{}", progress.pass, progress.passes), progress.steps);
    }
    pass = progress.pass;
    bar->update(progress.finished);
    return !scope.interrupted();
  });
}

// Few pictures are enough to rank layers: every velocity has thousands of values.
LayerChoices choose(const CalibrateArguments& arguments, Pipeline& pipeline,
                    const ModelCompensation& compensation) {
  CalibrationRun run = arguments.calibrate.run;
  run.prompts = std::min(run.prompts, kChoicePrompts);
  run.steps = std::min(run.steps, kChoiceSteps);
  run.seed += 1;  // other captions than the statistics are of
  GenerateRequest request = calibration_request(run);
  request.width = request.height = pipeline.trained_size;
  apply_paper_flux_recipe(*pipeline.transformer, LinearMode::dense);
  const DenseTrajectory trajectory = record_trajectory(pipeline, request, run.batch);
  const LayerBudget budget{
      .kind = arguments.choose == "speed" ? LayerBudget::Kind::speed : LayerBudget::Kind::error,
      .limit = arguments.budget};
  ProgressBar bar("choose", static_cast<std::int64_t>(compensation.layers.size()));
  LayerChoices choices =
      choose_layers(pipeline, compensation, trajectory, budget,
                    [&](std::size_t measured) { bar.update(static_cast<std::int64_t>(measured)); });
  choices.compensation.recipe = fmt::format("{} of {}, {} {}", choices.compensation.layers.size(),
                                            compensation.recipe, arguments.choose, budget.limit);
  return choices;
}

void print_choices(const LayerChoices& choices) {
  fmt::print("{:44} {:>15} {:>9}\n", "layer, best bargain first", "velocity error", "saved");
  for (const LayerChoice& layer : choices.layers) {
    fmt::print("{:44} {:15.4f} {:8.2f}%  {}\n", layer.name, layer.velocity_error, 100 * layer.saved,
               layer.chosen ? "sparse" : "dense");
  }
  fmt::print(
      "Relative error of the velocity with this layer alone sparse, and the share of all Linears'\n"
      "multiplications that it saves. Together: error {:.4f}, {:.1f} % of the multiplications.\n",
      choices.velocity_error, 100 * choices.relative_flops);
}

void print_made(const CalibrateArguments& arguments, const ModelCompensation& made) {
  fmt::print("{}: {} layers, method {}, transform {}, rank {}\n", arguments.output,
             made.layers.size(), made.method, made.transform, made.rank);
}

void solve_model(const CalibrateArguments& arguments, Pipeline& pipeline) {
  CalibrateOptions options = complete(arguments, pipeline);
  const ResumeFile resume(options.statistics, arguments.output);
  options.statistics = resume.path;
  const CalibrateResult result = run(pipeline, options);
  if (!result.finished) resume.fail_interrupted();
  std::optional<LayerChoices> choices;
  if (!arguments.choose.empty()) choices = choose(arguments, pipeline, result.compensation);
  const ModelCompensation& made = choices ? choices->compensation : result.compensation;
  write_compensation(arguments.output, made);
  resume.finish(statistics_files(pipeline, options));
  if (arguments.json) {
    nlohmann::ordered_json report = {{"output", arguments.output}};
    report.update(to_json(result));
    if (choices) report["choice"] = to_json(*choices);
    fmt::print("{}\n", report.dump(2));
    return;
  }
  print_layers(result);
  if (choices) print_choices(*choices);
  print_made(arguments, made);
}

void train_model(const CalibrateArguments& arguments, Pipeline& pipeline) {
  TrainLowRankOptions options = arguments.train;
  options.objective =
      arguments.method == "distill" ? LowRankObjective::velocity : LowRankObjective::layerwise;
  options.rows = arguments.calibrate.rows;
  options.seed = arguments.calibrate.run.seed;
  options.run = arguments.calibrate.run;
  const ResumeFile resume(arguments.calibrate.statistics, arguments.output);
  options.checkpoint = resume.path;
  const ModelCompensation start = arguments.start.empty()
                                      ? start_low_rank(pipeline, arguments.calibrate.recipe,
                                                       rank_for(arguments, pipeline), options.seed)
                                      : read_compensation(arguments.start);
  const InterruptScope scope;
  TrainLowRankResult result;
  {
    ProgressBar bar(arguments.method, options.steps);
    result = train_low_rank(pipeline, start, options, [&](const TrainLowRankProgress& progress) {
      bar.update(progress.step, fmt::format("loss {:.5f}", progress.loss));
      return !scope.interrupted();
    });
  }
  if (!result.finished) resume.fail_interrupted();
  result.compensation.method =
      arguments.start.empty() ? arguments.method : start.method + ", then " + arguments.method;
  write_compensation(arguments.output, result.compensation);
  resume.finish({resume.path});
  if (!arguments.json) {
    print_made(arguments, result.compensation);
    return;
  }
  nlohmann::ordered_json report = {{"output", arguments.output},
                                   {"method", result.compensation.method},
                                   {"rank", result.compensation.rank},
                                   {"steps", options.steps}};
  report["loss"] = result.loss ? nlohmann::ordered_json(*result.loss) : nlohmann::ordered_json();
  fmt::print("{}\n", report.dump(2));
}

void calibrate_model(const CalibrateArguments& arguments) {
  check_output_folder("--output", arguments.output);
  if (is_trained(arguments) && arguments.transform != "none") {
    throw UsageError("--transform: required none for " + arguments.method +
                     ", or a --start file with a transform, got " + arguments.transform);
  }
  if (is_trained(arguments) && !arguments.choose.empty()) {
    throw UsageError("--choose: required a method that solves, got " + arguments.method);
  }
  if (!is_trained(arguments) && !arguments.start.empty()) {
    throw UsageError("--start: required --method sgd or distill, got " + arguments.method);
  }
  Pipeline pipeline = arguments.model.load();
  if (is_trained(arguments)) {
    train_model(arguments, pipeline);
  } else {
    solve_model(arguments, pipeline);
  }
}

void add_method_options(CLI::App& command, CalibrateArguments& arguments) {
  command
      .add_option("--method", arguments.method,
                  "naive: nothing; norm: the token's norm; low-rank: the paper's LoRA in closed "
                  "form; refit: new weights; joint: refit and low rank at once; sgd: the paper's "
                  "LoRA, trained layer by layer; distill: trained on the model's velocity")
      ->check(CLI::IsMember({"naive", "norm", "low-rank", "refit", "joint", "sgd", "distill"}))
      ->capture_default_str();
  command.add_flag("--norm,!--no-norm", arguments.norm,
                   "Multiply by the token's norm ratio as well [default: with low-rank only]");
  command
      .add_option("--transform", arguments.transform,
                  "Before the choice: blocks of 4, 16, 64 or 128 channels, weights' column norms, "
                  "or these with channels permuted where an order is free: at the inputs of the "
                  "MLP's down projections. generate folds both into the weights before the layer; "
                  "behind a GELU the norms stay one factor an element")
      ->check(CLI::IsMember({"none", "4", "16", "64", "128", "columns", "permute"}))
      ->capture_default_str();
  command
      .add_option("--rank", arguments.rank,
                  "Of the low rank [default: 2 % of the hidden size, a multiple of 16]")
      ->check(CLI::Range(1, 4096));
  command
      .add_option("--damping", arguments.calibrate.solve.damping,
                  "Ridge, as a share of the moments' mean diagonal")
      ->check(CLI::Range(1e-9, 1e3))
      ->capture_default_str();
  command
      .add_option("--recipe", arguments.calibrate.recipe,
                  "Layers to sparsify: the paper's choice for a model")
      ->check(CLI::IsMember({"paper-flux", "paper-z-image", "paper-qwen-image"}))
      ->capture_default_str();
}

void add_choice_options(CLI::App& command, CalibrateArguments& arguments) {
  CLI::Option* kind =
      command
          .add_option("--choose", arguments.choose,
                      "Keep only the best bargains among the recipe's layers, as measured: as many "
                      "as stay within an error, or as few as reach a speed")
          ->check(CLI::IsMember({"error", "speed"}));
  command
      .add_option("--budget", arguments.budget,
                  "For --choose: relative velocity error, or multiplications relative to dense")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(kind)
      ->capture_default_str();
}

void add_training_options(CLI::App& command, CalibrateArguments& arguments) {
  command.add_option("--start", arguments.start,
                     "sgd and distill: a compensation file to train further");
  command
      .add_option(
          "--train-on", arguments.train.inputs,
          "sgd and distill: scenes, drawn and made noisy, or trajectories: the steps of the "
          "dense model's own sampling, of which --prompts pictures of --steps steps are held "
          "at a time")
      ->transform(CLI::CheckedTransformer(kTrainingInputs).description("{scenes,trajectories}"))
      ->default_str("scenes");
  command.add_option("--train-steps", arguments.train.steps, "sgd and distill: steps")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str();
  command
      .add_option("--train-batch", arguments.train.batch,
                  "sgd and distill: scenes, or steps of a trajectory, per step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      .add_option("--learning-rate", arguments.train.learning_rate,
                  "sgd and distill: peak learning rate")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_run_options(CLI::App& command, CalibrateOptions& options) {
  command.add_option("--prompts", options.run.prompts, "Training captions to draw")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command.add_option("--seed", options.run.seed, "Seed of the captions")->capture_default_str();
  command.add_option("--steps", options.run.steps, "Denoising steps")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command.add_option("--guidance", options.run.guidance, "Classifier-free guidance; 1 is off")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command.add_option("--batch", options.run.batch, "Images drawn at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command
      .add_option("--rows", options.rows, "Tokens taken, at random, of every input of every step")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  command.add_option("--moments", options.statistics,
                     "Keep the statistics (sgd, distill: the checkpoint) in this file, and go on "
                     "from it if it exists");
}

}  // namespace

void add_calibrate(CLI::App& app) {
  auto arguments = std::make_shared<CalibrateArguments>();
  arguments->calibrate.run = {.prompts = 32, .steps = 14, .batch = 8};
  CLI::App* command = app.add_subcommand(
      "calibrate", "Make the compensation that lets a sparse model draw as the dense one does");
  add_method_options(*command, *arguments);
  add_choice_options(*command, *arguments);
  add_run_options(*command, arguments->calibrate);
  command
      ->add_option("--memory", arguments->memory,
                   "GiB of statistics at a time; inputs that do not fit are drawn for in parts")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add_training_options(*command, *arguments);
  command
      ->add_option("-o,--output", arguments->output,
                   "The compensation file, for generate "
                   "--compensation")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print the layer report as JSON");
  arguments->model.add_to(*command);
  command->footer(
      "Examples:\n"
      "  rtlynx calibrate --transform 64 -o best.safetensors\n"
      "  rtlynx calibrate --transform 64 --choose error --budget 0.05 -o careful.safetensors\n"
      "  rtlynx calibrate --method low-rank --moments sums.safetensors -o paper.safetensors\n"
      "  rtlynx generate --compensation best.safetensors --compare -p \"a large red circle\"\n"
      "Ctrl-C keeps the statistics; the same command goes on. Another --method, --rank or\n"
      "--damping with the same --moments solves anew without drawing. The statistics take\n"
      "24 K^2 bytes per input of K channels, 32 K^2 with blocks, whatever the number of prompts.");
  command->callback([arguments] { calibrate_model(*arguments); });
}

}  // namespace rtlynx::cli
