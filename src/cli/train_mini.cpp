// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "study/train.h"

namespace rtlynx::cli {
namespace {

struct TrainMiniOptions {
  TrainOptions train;
  std::string device = "auto";
  std::string output = "lynx-mini";
  int threads = 0;
  std::int64_t stop_after = 0;
  bool json = false;
};

// Shards that version control and mail take without complaint.
constexpr std::size_t kMaxShardBytes = std::size_t{15} << 20;

void train_mini(TrainMiniOptions options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  options.train.device = choose_device(options.device);
  const InterruptScope scope;
  std::filesystem::create_directories(options.output);
  if (options.train.checkpoint.empty()) {
    options.train.checkpoint = std::filesystem::path(options.output) / "checkpoint.safetensors";
  }

  const auto loss_text = [](const std::optional<double>& loss) {
    return loss ? fmt::format("loss {:.4f}", *loss) : std::string();
  };
  TrainResult result;
  {
    ProgressBar bar("train", options.train.steps);
    std::int64_t here = 0;
    result = train_lynx_mini(options.train, [&](const TrainProgress& progress) {
      bar.update(progress.step, loss_text(progress.loss));
      ++here;
      return !scope.interrupted() && (options.stop_after == 0 || here < options.stop_after);
    });
  }
  save_pipeline(result.pipeline, options.output, kMaxShardBytes);
  if (options.json) {
    nlohmann::ordered_json report = {{"model", options.output},
                                     {"checkpoint", options.train.checkpoint.string()},
                                     {"finished_steps", result.finished_steps},
                                     {"steps", options.train.steps}};
    report["loss"] = result.loss ? nlohmann::ordered_json(*result.loss) : nlohmann::ordered_json();
    fmt::print("{}\n", report.dump(2));
    return;
  }
  fmt::print("{} of {} steps; model in {}  {}\n", result.finished_steps, options.train.steps,
             options.output, loss_text(result.loss));
  if (result.finished_steps < options.train.steps) {
    fmt::print("The same command goes on from {}\n", options.train.checkpoint.string());
  }
}

}  // namespace

void add_train_mini(CLI::App& app) {
  auto options = std::make_shared<TrainMiniOptions>();
  TrainOptions& train = options->train;
  CLI::App* command =
      app.add_subcommand("train-mini", "Train lynx-mini on scenes that rtlynx draws itself");
  command->add_option("-o,--output", options->output, "Folder of the model and its checkpoint")
      ->capture_default_str();
  command->add_option("--checkpoint", train.checkpoint,
                      "Resume file [default: checkpoint.safetensors in the output folder]");
  command->add_option("--steps", train.steps, "Steps of the whole run")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str();
  command
      ->add_option("--stop-after", options->stop_after,
                   "Stop after this many steps of this call and keep the checkpoint [0: never]")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--batch", train.batch, "Scenes per step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--learning-rate", train.learning_rate, "Peak learning rate")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--warm-up", train.warm_up, "Steps to the peak")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--heads", train.shape.heads, "Heads of 64 channels: hidden size / 64")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--double-blocks", train.shape.double_blocks, "Double-stream blocks")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_option("--single-blocks", train.shape.single_blocks, "Single-stream blocks")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->add_option("--seed", train.seed, "Seed of weights and scenes")->capture_default_str();
  command->add_option("--device", options->device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "CPU threads [0: all cores]")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--json", options->json, "Print the outcome as JSON");
  command->footer(
      "Example:\n"
      "  rtlynx train-mini --steps 12000 -o my-mini   # Ctrl-C keeps a checkpoint; run it again "
      "to\n"
      "                                               # go on\n"
      "  rtlynx generate --model my-mini -p \"a large red circle top left\"");
  command->callback([options] { train_mini(*options); });
}

}  // namespace rtlynx::cli
