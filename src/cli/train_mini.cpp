// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/terminal.h"
#include "io/text.h"
#include "mini/step_time.h"
#include "mini/train.h"
#include "options/number.h"

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

void check_files(const TrainMiniOptions& options) {
  const ModelFiles model = model_files(options.output);
  FilePlan files;
  files.read("--output", model.index);
  for (const auto& part : model.parts) files.read_folder("--output", part);
  files.write_folder("--output", options.output);
  const std::filesystem::path folder = options.train.checkpoint.parent_path();
  const bool made_by_us = folder == std::filesystem::path(options.output);
  if (!made_by_us || std::filesystem::is_directory(folder)) {
    files.write("--checkpoint", options.train.checkpoint);
  }
  files.check();
}

// A step of training takes about three times as long as the model alone, which is not guided.
void say_duration_of(Pipeline& pipeline, const TrainMiniOptions& options) {
  constexpr double kForwardAndBackward = 3, kWorthMeasuring = 100;
  const auto pictures =
      static_cast<double>(options.train.steps) * static_cast<double>(options.train.batch);
  if (pictures < kWorthMeasuring) return;
  const double seconds = kForwardAndBackward * pictures *
                         seconds_per_step(pipeline, static_cast<int>(options.train.batch), 1);
  say_duration("train-mini", seconds,
               fmt::format("{} steps of {} scenes, less those of the checkpoint",
                           options.train.steps, options.train.batch));
}

void train_mini(TrainMiniOptions options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  options.train.device = choose_device(options.device);
  const InterruptScope scope;
  if (options.train.checkpoint.empty()) {
    options.train.checkpoint = std::filesystem::path(options.output) / "checkpoint.safetensors";
  }
  check_files(options);
  make_folder(options.output);
  options.train.before = [&](Pipeline& pipeline) {
    stage_pipeline(pipeline, options.output, kMaxShardBytes);  // and thrown away
    say_duration_of(pipeline, options);
  };

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
    nlohmann::ordered_json report = {{"model", path_text(options.output)},
                                     {"checkpoint", path_text(options.train.checkpoint)},
                                     {"finished_steps", result.finished_steps},
                                     {"steps", options.train.steps}};
    report["loss"] = result.loss ? nlohmann::ordered_json(*result.loss) : nlohmann::ordered_json();
    print_report(report, "train-mini");
    return;
  }
  terminal::print("{} of {} steps; model in {}  {}\n", result.finished_steps, options.train.steps,
                  options.output, loss_text(result.loss));
  if (result.finished_steps < options.train.steps) {
    terminal::print("The same command goes on from {}\n", options.train.checkpoint.string());
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
      ->transform(options::whole_number(1, 100000000))
      ->capture_default_str();
  command
      ->add_option("--stop-after", options->stop_after,
                   "Stop after this many steps of this call and keep the checkpoint [0: never]")
      ->transform(options::whole_number(0));
  command->add_option("--batch", train.batch, "Scenes per step")
      ->transform(options::whole_number(1, 65536))
      ->capture_default_str();
  command->add_option("--learning-rate", train.learning_rate, "Peak learning rate")
      ->transform(options::positive_number())
      ->capture_default_str();
  command->add_option("--warm-up", train.warm_up, "Steps to the peak")
      ->transform(options::whole_number(0))
      ->capture_default_str();
  command->add_option("--heads", train.shape.heads, "Heads of 64 channels: hidden size / 64")
      ->transform(options::whole_number(1, 64))
      ->capture_default_str();
  command->add_option("--double-blocks", train.shape.double_blocks, "Double-stream blocks")
      ->transform(options::whole_number(0, 100))
      ->capture_default_str();
  command->add_option("--single-blocks", train.shape.single_blocks, "Single-stream blocks")
      ->transform(options::whole_number(1, 100))
      ->capture_default_str();
  command->add_option("--seed", train.seed, "Seed of weights and scenes")
      ->transform(options::seed())
      ->capture_default_str();
  command->add_option("--device", options->device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "CPU threads [0: all cores]")
      ->transform(options::whole_number(0, 1024));
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
