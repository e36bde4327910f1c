// SPDX-License-Identifier: Apache-2.0
#include "cli/calibrate_arguments.h"

#include <map>

#include "compensate/rivals.h"
#include "compensate/solve.h"
#include "options/number.h"

namespace rtlynx::cli {
namespace {

const std::map<std::string, LowRankInputs> kTrainingInputs = {
    {"scenes", LowRankInputs::scenes}, {"trajectories", LowRankInputs::trajectories}};

std::vector<std::string> names_of_methods() {
  std::vector<std::string> names = compensation_method_names();
  names.insert(names.end(), {"sgd", "distill"});
  return names;
}

void add_method_options(CLI::App& command, CalibrateArguments& arguments) {
  command
      .add_option("--method", arguments.method,
                  "naive: nothing; norm: the token's norm; low-rank: the paper's LoRA in closed "
                  "form; refit: new weights; joint: refit and low rank at once; sgd: the paper's "
                  "LoRA, trained layer by layer; distill: trained on the model's velocity")
      ->check(CLI::IsMember(names_of_methods()))
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
      ->transform(options::whole_number(1, 4096));
  command
      .add_option("--damping", arguments.calibrate.solve.damping,
                  "Ridge, as a share of the moments' mean diagonal")
      ->transform(options::number(1e-9, 1e3))
      ->capture_default_str();
  command.add_flag("--e4m3", arguments.calibrate.solve.e4m3,
                   "Round kept values and weights to e4m3 where they run; closed forms only");
  command
      .add_option("--recipe", arguments.calibrate.recipe,
                  "Layers to sparsify: the paper's choice for a model")
      ->check(CLI::IsMember({"paper", "all"}))
      ->capture_default_str();
}

std::vector<std::string> names_of_rivals() {
  std::vector<std::string> names = {"all"};
  for (const RivalMethod method : kRivalMethods) names.emplace_back(to_string(method));
  return names;
}

void add_choice_options(CLI::App& command, CalibrateArguments& arguments) {
  CLI::Option* kind =
      command
          .add_option("--choose", arguments.choose,
                      "Keep only the best bargains among the recipe's layers, as measured: as many "
                      "as stay within an error, as few as reach a speed, or as cost no more than "
                      "--method in all of them")
          ->check(CLI::IsMember({"error", "speed", "equal"}));
  command
      .add_option("--budget", arguments.budget,
                  "For --choose: relative velocity error, or cost of all Linears relative to dense")
      ->transform(options::positive_number(1))
      ->needs(kind)
      ->capture_default_str();
  command
      .add_option("--cost", arguments.cost,
                  "For --choose: multiplications; time, as measured and modelled for an H200 in "
                  "bf16; auto: time if sparse layers save any at these sizes")
      ->check(CLI::IsMember({"auto", "multiplications", "time"}))
      ->needs(kind)
      ->capture_default_str();
  command
      .add_option("--at-once", arguments.at_once,
                  "For --cost time: pictures drawn at once, of the trained size")
      ->transform(options::whole_number(1, 65536))
      ->needs(kind)
      ->capture_default_str();
  command
      .add_option(
          "--mix", arguments.mix,
          "For --choose: what a layer may also do: sparsegpt, sparsegpt+lora (2:4 weights), "
          "fixed-low-rank, fixed-half, or all")
      ->delimiter(',')
      ->check(CLI::IsMember(names_of_rivals()))
      ->needs(kind);
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
      ->transform(options::whole_number(1, 100000000))
      ->capture_default_str();
  command
      .add_option("--train-batch", arguments.train.batch,
                  "sgd and distill: scenes, or steps of a trajectory, per step")
      ->transform(options::whole_number(1, 65536))
      ->capture_default_str();
  command
      .add_option("--learning-rate", arguments.train.learning_rate,
                  "sgd and distill: peak learning rate")
      ->transform(options::positive_number())
      ->capture_default_str();
}

void add_shard_options(CLI::App& command, CalibrateArguments& arguments) {
  CLI::Option* shard =
      command
          .add_option("--shard", arguments.shard,
                      "i/n: draw the i-th of n shares of the prompts and keep its statistics in "
                      "--moments; solves nothing")
          ->needs("--moments");
  command
      .add_option(
          "--inputs", arguments.inputs,
          "With --shard and a --transform of the inputs' statistics: the merged first round "
          "of all shards, which begins the second")
      ->needs(shard);
  command
      .add_option("--merge", arguments.merge,
                  "Add up the statistics of all shards, in these files, and solve; --moments keeps "
                  "the sum")
      ->excludes(shard);
}

void add_run_options(CLI::App& command, CalibrateOptions& options) {
  command.add_option("--prompts", options.run.prompts, "Training captions to draw")
      ->transform(options::whole_number(1, 1000000))
      ->capture_default_str();
  command.add_option("--seed", options.run.seed, "Seed of the captions")
      ->transform(options::seed())
      ->capture_default_str();
  command.add_option("--steps", options.run.steps, "Denoising steps")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
  command.add_option("--guidance", options.run.guidance, kGuidanceHelp)
      ->transform(options::number(0, 100))
      ->capture_default_str();
  command.add_option("--batch", options.run.batch, "Images drawn at once")
      ->transform(options::whole_number(1, 4096))
      ->capture_default_str();
  command
      .add_option("--rows", options.rows,
                  "Tokens taken, at random, of every input of a batch and step")
      ->transform(options::whole_number(1, 1 << 30))
      ->capture_default_str();
  command.add_option("--moments", options.statistics,
                     "Keep the statistics (sgd, distill: the checkpoint) in this file, and go on "
                     "from it if it exists");
}

}  // namespace

void add_calibrate_options(CLI::App& command, CalibrateArguments& arguments) {
  add_method_options(command, arguments);
  add_choice_options(command, arguments);
  add_run_options(command, arguments.calibrate);
  command
      .add_option("--memory", arguments.memory,
                  "GiB of statistics at a time; inputs that do not fit are drawn for in parts")
      ->transform(options::whole_number(1, 1 << 20))
      ->capture_default_str();
  add_shard_options(command, arguments);
  add_training_options(command, arguments);
  arguments.embeddings.add_to(
      command, {"--prompts", "--batch", "--moments", "--choose", "--shard", "--merge", "--start",
                "--train-on", "--train-steps", "--train-batch", "--learning-rate"});
  command
      .add_option("-o,--output", arguments.output,
                  "The compensation file, for generate --compensation")
      ->capture_default_str();
  command.add_flag("--json", arguments.json, "Print the layer report as JSON");
  arguments.model.add_to(command);
}

}  // namespace rtlynx::cli
