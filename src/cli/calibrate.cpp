// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "cli/calibrate_arguments.h"
#include "cli/calibrate_embeddings.h"
#include "cli/calibrate_report.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/terminal.h"
#include "io/text.h"
#include "mini/step_time.h"
#include "models/recipe.h"
#include "study/calibration_shard.h"
#include "study/calibration_shards.h"
#include "study/choose_layers.h"

namespace rtlynx::cli {
namespace {

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

std::vector<RivalMethod> rivals_of(const CalibrateArguments& arguments) {
  const auto& names = arguments.mix;
  if (std::find(names.begin(), names.end(), "all") != names.end()) {
    return {kRivalMethods.begin(), kRivalMethods.end()};
  }
  std::vector<RivalMethod> methods;
  for (const std::string& name : names) methods.push_back(rival_method_from_string(name));
  return methods;
}

CalibrateOptions complete(const CalibrateArguments& arguments, const Pipeline& pipeline) {
  CalibrateOptions options = arguments.calibrate;
  options.memory = arguments.memory << 30;
  options.solve.method = compensation_method_from_string(arguments.method);
  options.solve.norm = arguments.norm.value_or(norm_by_default(options.solve.method));
  options.solve.rank = rank_for(arguments, pipeline);
  options.transform = transform_choice_from_string(arguments.transform);
  options.rivals = rivals_of(arguments);
  return options;
}

/// What an unfinished run goes on from: the file that the user named, to be kept, or one beside the
/// output that is removed at the end.
struct ResumeFile {
  std::filesystem::path path;
  bool keep = false;

  ResumeFile(const std::filesystem::path& named, const std::string& output)
      : path(named.empty() ? std::filesystem::path(output + ".partial") : named),
        keep(!named.empty()) {}
  [[noreturn]] void fail_interrupted() const {
    throw Error("calibrate: interrupted; the same command goes on from " + path.string());
  }
  void finish(const std::vector<std::filesystem::path>& files) const {
    if (keep) return;
    for (const auto& file : files) std::filesystem::remove(file);
  }
};

/// Shows the passes and ends them in good order where Ctrl-C comes.
class Watch {
 public:
  bool operator()(const CalibrateProgress& progress) {
    if (progress.pass != pass_) {
      bar_.emplace(fmt::format("pass {}/{}", progress.pass, progress.passes), progress.steps);
    }
    pass_ = progress.pass;
    bar_->update(progress.finished);
    return !scope_.interrupted();
  }

 private:
  InterruptScope scope_;
  std::optional<ProgressBar> bar_;
  int pass_ = 0;
};

void say_duration_of(Pipeline& pipeline, const CalibrateArguments& arguments,
                     const CalibrateOptions& options) {
  constexpr std::int64_t kWorthMeasuring = 200;
  const CalibrationRun& run = options.run;
  const std::int64_t steps = picture_steps(options, statistics_files(pipeline, options).size());
  if (steps < kWorthMeasuring) return;
  say_duration("calibrate",
               static_cast<double>(steps) * seconds_per_step(pipeline, run.batch, run.guidance),
               fmt::format("{} steps of single pictures, less what {} holds{}", steps,
                           path_text(options.statistics),
                           arguments.choose.empty() ? "" : "; then every layer is measured"));
}

CalibrateResult run(Pipeline& pipeline, const CalibrateOptions& options) {
  Watch watch;
  return calibrate(pipeline, options, std::ref(watch));
}

void print_shard(const CalibrateArguments& arguments, ShardProgress state) {
  const bool second = state == ShardProgress::inputs_ready;
  if (arguments.json) {
    const nlohmann::ordered_json report = {{"shard", arguments.shard},
                                           {"moments", path_text(arguments.calibrate.statistics)},
                                           {"second_round", second}};
    print_report(report, "calibrate");
    return;
  }
  terminal::print("{}: statistics of shard {}\n{}", arguments.calibrate.statistics.string(),
                  arguments.shard,
                  second ? "Next: --merge all shards with --moments SUM, then each --shard with "
                           "--inputs SUM.\n"
                         : "Next: --merge all shards.\n");
}

void draw_shard(const CalibrateArguments& arguments, Pipeline& pipeline) {
  CalibrateOptions options = complete(arguments, pipeline);
  options.shard = shard_from_string(arguments.shard);
  Watch watch;
  const ShardProgress state = collect_shard(pipeline, options, arguments.inputs, std::ref(watch));
  if (state == ShardProgress::stopped) {
    throw Error("calibrate: interrupted; the same command goes on from " +
                options.statistics.string());
  }
  print_shard(arguments, state);
}

/// Leaves the shards' sum where the run goes on from. False if a second round comes first.
bool merge(const CalibrateArguments& arguments, const Pipeline& pipeline,
           const CalibrateOptions& options) {
  if (options.transform.needs_moments() && arguments.calibrate.statistics.empty()) {
    throw UsageError("--merge: required --moments for the sums of a transform's rounds, got none");
  }
  const std::vector<std::filesystem::path> files(arguments.merge.begin(), arguments.merge.end());
  return merge_shards(pipeline, options, files) == ShardProgress::finished;
}

void print_second_round(const CalibrateArguments& arguments) {
  const std::string file = path_text(arguments.calibrate.statistics);
  if (arguments.json) {
    print_report(nlohmann::ordered_json({{"moments", file}, {"second_round", true}}), "calibrate");
    return;
  }
  terminal::print(
      "{0}: inputs of {1} shards\n"
      "Next: each --shard with --inputs {0}; or this command without --merge, to draw it all.\n",
      file, arguments.merge.size());
}

LayerBudget budget_of(const CalibrateArguments& arguments) {
  LayerBudget budget{.limit = arguments.budget, .pictures = arguments.at_once};
  if (arguments.choose == "speed") budget.kind = LayerBudget::Kind::speed;
  if (arguments.choose == "equal") budget.kind = LayerBudget::Kind::equal;
  if (arguments.cost != "auto") budget.measure = cost_measure_from_string(arguments.cost);
  return budget;
}

LayerChoices choose(const CalibrateArguments& arguments, Pipeline& pipeline,
                    const CalibrateResult& result) {
  const LayerCandidates candidates = candidates_of(result);
  const DenseTrajectory trajectory = choice_trajectory(pipeline, arguments.calibrate.run);
  const LayerBudget budget = budget_of(arguments);
  ProgressBar bar("choose", static_cast<std::int64_t>(candidates.options.size()));
  LayerChoices choices =
      choose_layers(pipeline, candidates, trajectory, budget,
                    [&](std::size_t measured) { bar.update(static_cast<std::int64_t>(measured)); });
  const std::string limit = budget.kind == LayerBudget::Kind::equal
                                ? std::string("cost")
                                : fmt::format("{}", budget.limit);
  choices.compensation.recipe =
      fmt::format("{} of {}, {} {} by {}", choices.compensation.layers.size(),
                  result.compensation.recipe, arguments.choose, limit, to_string(choices.measure));
  return choices;
}

void print_made(const CalibrateArguments& arguments, const ModelCompensation& made) {
  terminal::print("{}: {} layers, method {}, transform {}, rank {}\n", arguments.output,
                  made.layers.size(), made.method, made.transform, made.rank);
}

void print_solved(const CalibrateArguments& arguments, const CalibrateResult& result,
                  const std::optional<LayerChoices>& choices) {
  if (arguments.json) {
    nlohmann::ordered_json report = {{"output", path_text(arguments.output)}};
    report.update(to_json(result));
    if (choices) report["choice"] = to_json(*choices);
    print_report(report, "calibrate");
    return;
  }
  print_layers(result);
  if (choices) print_choices(*choices);
}

void solve_model(const CalibrateArguments& arguments, Pipeline& pipeline) {
  CalibrateOptions options = complete(arguments, pipeline);
  const ResumeFile resume(options.statistics, arguments.output);
  options.statistics = resume.path;
  if (!arguments.merge.empty() && !merge(arguments, pipeline, options)) {
    print_second_round(arguments);
    return;
  }
  if (arguments.merge.empty()) say_duration_of(pipeline, arguments, options);
  const CalibrateResult result = run(pipeline, options);
  if (!result.finished) resume.fail_interrupted();
  std::optional<LayerChoices> choices;
  if (!arguments.choose.empty()) choices = choose(arguments, pipeline, result);
  const ModelCompensation& made = choices ? choices->compensation : result.compensation;
  print_solved(arguments, result, choices);
  if (made.layers.empty()) {
    throw Error("--choose: no layer is worth its error, all stay dense; nothing was written, and " +
                resume.path.string() + " keeps the statistics");
  }
  write_compensation(arguments.output, made);
  resume.finish(statistics_files(pipeline, options));
  if (!arguments.json) print_made(arguments, made);
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
  for (const auto& [name, layer] : start.layers) {
    require(!layer.values.e4m3, arguments.start, "layers without e4m3, which has no gradient",
            name);
  }
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
  nlohmann::ordered_json report = {{"output", path_text(arguments.output)},
                                   {"method", result.compensation.method},
                                   {"rank", result.compensation.rank},
                                   {"steps", options.steps}};
  report["loss"] = result.loss ? nlohmann::ordered_json(*result.loss) : nlohmann::ordered_json();
  print_report(report, "calibrate");
}

void check_files(const CalibrateArguments& arguments) {
  const bool is_shard = !arguments.shard.empty();
  FilePlan files;
  files.read_model(arguments.model.model_folder());
  files.read("--start", arguments.start);
  files.read("--inputs", arguments.inputs);
  for (const std::string& file : arguments.merge) files.read("--merge", file);
  if (!is_shard) files.write("--output", arguments.output);
  files.write("--moments", is_shard
                               ? arguments.calibrate.statistics
                               : ResumeFile(arguments.calibrate.statistics, arguments.output).path);
  files.check();
}

void calibrate_model(const CalibrateArguments& arguments) {
  if (arguments.embeddings.is_given()) return calibrate_from_embeddings(arguments);
  if (is_trained(arguments) && arguments.transform != "none") {
    throw UsageError("--transform: required none for " + arguments.method +
                     ", or a --start file with a transform, got " + arguments.transform);
  }
  if (is_trained(arguments) && arguments.calibrate.solve.e4m3) {
    throw UsageError("--e4m3: required a method that solves, got " + arguments.method);
  }
  if (is_trained(arguments) && !arguments.choose.empty()) {
    throw UsageError("--choose: required a method that solves, got " + arguments.method);
  }
  if (!is_trained(arguments) && !arguments.start.empty()) {
    throw UsageError("--start: required --method sgd or distill, got " + arguments.method);
  }
  const bool shared = !arguments.shard.empty() || !arguments.merge.empty();
  if (is_trained(arguments) && shared) {
    throw UsageError("--shard, --merge: required a method that solves, got " + arguments.method);
  }
  if (!arguments.shard.empty() && !arguments.choose.empty()) {
    throw UsageError("--choose: required all shards, with --merge, got one");
  }
  check_files(arguments);
  Pipeline pipeline = arguments.model.load();
  if (!arguments.shard.empty()) {
    draw_shard(arguments, pipeline);
  } else if (is_trained(arguments)) {
    train_model(arguments, pipeline);
  } else {
    solve_model(arguments, pipeline);
  }
}

}  // namespace

void add_calibrate(CLI::App& app) {
  auto arguments = std::make_shared<CalibrateArguments>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Make the compensation that lets a sparse model draw as the dense one does");
  add_calibrate_options(*command, *arguments);
  command->footer(
      "Examples:\n"
      "  rtlynx calibrate --transform 64 -o best.safetensors\n"
      "  rtlynx calibrate --transform 64 --e4m3 -o fast.safetensors    # e4m3 products, on Hopper\n"
      "  rtlynx calibrate --transform 64 --choose error --budget 0.05 -o careful.safetensors\n"
      "  rtlynx calibrate --choose equal --mix all --cost multiplications -o mixed.safetensors\n"
      "  rtlynx calibrate --method low-rank --moments sums.safetensors -o paper.safetensors\n"
      "  rtlynx calibrate --shard 1/2 --moments a.safetensors    # and 2/2, anywhere else\n"
      "  rtlynx calibrate --merge a.safetensors b.safetensors -o joint.safetensors\n"
      "  rtlynx calibrate --model FLUX.1-dev --prompts-file prompts.txt -o flux.safetensors\n"
      "  rtlynx calibrate --model Qwen-Image --prompts-file prompts.txt --negative \" \" "
      "--true-cfg 4\n"
      "  rtlynx calibrate --model Z-Image-Turbo --prompts-file prompts.txt --steps 8\n"
      "  rtlynx generate --compensation best.safetensors --compare -p \"a large red circle\"\n"
      "Ctrl-C keeps the statistics; the same command goes on. Another --method, --rank or\n"
      "--damping with the same --moments solves anew without drawing. The statistics take\n"
      "24 K^2 bytes per input of K channels, 32 K^2 with blocks, whatever the number of prompts.\n"
      "Shards take the options of the whole run. With --transform 4 to 128 or permute they take\n"
      "two rounds: merge the first with --moments, then draw each shard with --inputs, and merge.");
  command->callback([arguments, command] {
    arguments->embeddings.take(*command);
    if (command->count("--norm") == 0) arguments->norm.reset();  // CLI11 makes it false
    calibrate_model(*arguments);
  });
}

}  // namespace rtlynx::cli
