// SPDX-License-Identifier: Apache-2.0
#include "cli/calibrate_embeddings.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cli/calibrate_report.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "compensate/solve.h"
#include "io/terminal.h"
#include "io/text.h"
#include "study/block_calibration.h"

namespace rtlynx::cli {
namespace {

/// Where finished blocks lie until the file is written.
std::filesystem::path kept_folder(const CalibrateArguments& arguments) {
  return arguments.output + ".blocks";
}

/// 2 % of the hidden size, which the first inputs have.
std::int64_t rank_for(const CalibrateArguments& arguments, const BlockwiseTransformer& model) {
  return arguments.rank > 0 ? arguments.rank : default_rank(model.groups().front().channels);
}

BlockCalibrateOptions options_of(const CalibrateArguments& arguments, const EmbeddedModel& model) {
  BlockCalibrateOptions options{
      .calibrate = arguments.calibrate, .run = model.run, .kept = kept_folder(arguments)};
  options.calibrate.memory = arguments.memory << 30;
  options.calibrate.solve.method = compensation_method_from_string(arguments.method);
  options.calibrate.solve.norm = arguments.norm.value_or(arguments.method == "low-rank");
  options.calibrate.solve.rank = rank_for(arguments, *model.planned);
  options.calibrate.transform = transform_choice_from_string(arguments.transform);
  return options;
}

void check_files(const CalibrateArguments& arguments) {
  FilePlan files;
  files.read_model(arguments.model.model_folder());
  arguments.embeddings.add_to(files);
  files.write("--output", arguments.output);
  files.write_folder("finished blocks", kept_folder(arguments));
  files.check();
}

/// Shows the stages and ends them in good order where Ctrl-C comes.
class Watch {
 public:
  bool operator()(const BlockCalibrateProgress& progress) {
    if (progress.stage != stage_) bar_.emplace(progress.stage, progress.all);
    stage_ = progress.stage;
    bar_->update(progress.finished);
    return !scope_.interrupted();
  }

 private:
  InterruptScope scope_;
  std::optional<ProgressBar> bar_;
  std::string stage_;
};

/// Moments of fewer tokens than channels fit themselves.
void warn_of_few_tokens(const CalibrateResult& result) {
  const auto few = [](const CalibratedLayer& layer) { return layer.tokens < layer.in_features; };
  const auto count = std::ranges::count_if(result.layers, few);
  if (count == 0) return;
  const CalibratedLayer& first = *std::ranges::find_if(result.layers, few);
  terminal::say(fmt::format(
      "calibrate: {} layers read fewer tokens than they have channels, such as {} of {} by {}, and "
      "fit these tokens: take more prompts, --steps or --rows",
      count, first.tokens, first.in_features, first.name));
}

void report(const CalibrateArguments& arguments, const CalibrateResult& result) {
  if (arguments.json) {
    nlohmann::ordered_json json = {{"output", path_text(arguments.output)}};
    json.update(to_json(result));
    print_report(json, "calibrate");
    return;
  }
  print_layers(result);
  const ModelCompensation& made = result.compensation;
  terminal::print("{}: {} layers, method {}, transform {}, rank {}\n", arguments.output,
                  made.layers.size(), made.method, made.transform, made.rank);
}

}  // namespace

void calibrate_from_embeddings(const CalibrateArguments& arguments) {
  if (arguments.method == "sgd" || arguments.method == "distill") {
    throw UsageError("--prompts-file, --embeddings: required a method that solves, got " +
                     arguments.method);
  }
  check_files(arguments);
  // Everything is checked on a model without weights: theirs take minutes to read.
  EmbeddedModel opened =
      open_embedded(arguments.model, arguments.embeddings, arguments.calibrate.run);
  const BlockCalibrateOptions options = options_of(arguments, opened);
  check_block_calibration(*opened.planned, opened.tensors, options);

  const auto model = opened.load();
  Watch watch;
  const CalibrateResult result =
      calibrate_blocks(*model, opened.embeddings, opened.scheduler, options, std::ref(watch));
  if (!result.finished) {
    throw Error("calibrate: interrupted; the same command goes on from " + options.kept.string());
  }
  warn_of_few_tokens(result);
  write_compensation(arguments.output, result.compensation);
  std::filesystem::remove_all(options.kept);
  report(arguments, result);
}

}  // namespace rtlynx::cli
