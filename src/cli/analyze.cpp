// SPDX-License-Identifier: Apache-2.0
#include "study/analyze.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "cli/commands.h"
#include "cli/embedding_options.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"
#include "mini/step_time.h"
#include "options/number.h"
#include "study/analysis_charts.h"

namespace rtlynx::cli {
namespace {

struct AnalyzeArguments {
  ModelOptions model;
  EmbeddingOptions embeddings;
  AnalyzeOptions analyze;
  std::string output;
  std::string plots;
  bool json = false;
};

void print_inputs(const nlohmann::ordered_json& report) {
  terminal::print("{:44} {:>6} {:>8} {:>9} {:>6} {:>6}\n", "input", "width", "kurtosis",
                  "near zero", "kept", "rank");
  for (const auto& input : report["inputs"]) {
    const auto& spread = input["distribution"];
    terminal::print("{:44} {:6} {:8.2f} {:9.3f} {:6.3f} {:6.1f}\n",
                    input["name"].get<std::string>(), input["channels"].get<int>(),
                    spread["kurtosis"].get<double>(), spread["near_zero"].get<double>(),
                    spread["kept_energy"].get<double>(), input["effective_rank"].get<double>());
  }
}

void print_layers(const nlohmann::ordered_json& report) {
  terminal::print("{:44} {:>6} {:>9} {:>7} {:>7} {:>7}\n", "layer", "kept", "magnitude", "Wanda",
                  "naive", "norm");
  for (const auto& layer : report["layers"]) {
    const auto error = [&](const char* treatment) {
      const auto& total = layer["errors"][treatment]["total"];
      return total.is_null() ? std::string("-") : fmt::format("{:.3f}", total.get<double>());
    };
    terminal::print("{:44} {:6.3f} {:>9} {:>7} {:>7} {:>7}\n", layer["name"].get<std::string>(),
                    layer["distribution"]["kept_energy"].get<double>(), error("weight_magnitude"),
                    error("weight_wanda"), error("activation_naive"), error("activation_norm"));
  }
}

// Two passes over the same pictures.
void say_duration_of(Pipeline& pipeline, const CalibrationRun& run) {
  constexpr std::int64_t kWorthMeasuring = 100;
  const std::int64_t steps = std::int64_t{2} * run.prompts * run.steps;
  if (steps < kWorthMeasuring) return;
  say_duration("analyze",
               static_cast<double>(steps) * seconds_per_step(pipeline, run.batch, run.guidance),
               fmt::format("two passes over {} pictures of {} steps", run.prompts, run.steps));
}

nlohmann::ordered_json analyze_mini(const AnalyzeArguments& arguments,
                                    const StepCallback& on_step) {
  Pipeline pipeline = arguments.model.load();
  say_duration_of(pipeline, arguments.analyze.run);
  return analyze(pipeline, arguments.analyze, on_step);
}

nlohmann::ordered_json analyze_embedded(const AnalyzeArguments& arguments,
                                        const StepCallback& on_step) {
  EmbeddedModel opened =
      open_embedded(arguments.model, arguments.embeddings, arguments.analyze.run);
  const auto model = opened.load();
  return analyze(*model, opened.embeddings, opened.scheduler, opened.run, arguments.analyze.rows,
                 on_step);
}

void analyze_model(const AnalyzeArguments& arguments) {
  FilePlan files;
  files.read_model(arguments.model.model_folder());
  arguments.embeddings.add_to(files);
  files.write("--output", arguments.output);
  files.write_folder("--plots", arguments.plots);
  files.check();
  nlohmann::ordered_json report;
  {
    std::optional<ProgressBar> bar;
    const StepCallback on_step = [&](int finished, int steps) {
      if (!bar) bar.emplace("analyze", steps);
      bar->update(finished);
    };
    report = arguments.embeddings.is_given() ? analyze_embedded(arguments, on_step)
                                             : analyze_mini(arguments, on_step);
  }
  if (!arguments.output.empty())
    write_file_atomically(arguments.output, report_text(report, "analyze"));
  if (!arguments.plots.empty()) {
    make_folder(arguments.plots);
    for (const NamedChart& chart : analysis_charts(report, "analyze")) {
      write_file_atomically(std::filesystem::path(arguments.plots) / (chart.name + ".svg"),
                            chart.svg);
    }
  }
  if (arguments.json) {
    print_report(report, "analyze");
    return;
  }
  print_inputs(report);
  terminal::print("\n");
  print_layers(report);
}

}  // namespace

void add_analyze(CLI::App& app) {
  auto arguments = std::make_shared<AnalyzeArguments>();
  AnalyzeOptions& options = arguments->analyze;
  CLI::App* command = app.add_subcommand(
      "analyze", "Show how far a model's weights and activations lend themselves to 2:4");
  command->add_option("--prompts", options.run.prompts, "Training captions to draw")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command->add_option("--seed", options.run.seed, "Seed of the list of captions")
      ->transform(options::seed())
      ->capture_default_str();
  command->add_option("--steps", options.run.steps, "Denoising steps")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str();
  command->add_option("--guidance", options.run.guidance, kGuidanceHelp)
      ->transform(options::number(0, 100))
      ->capture_default_str();
  command->add_option("--batch", options.run.batch, "Images drawn at once")
      ->transform(options::whole_number(1, 4096))
      ->capture_default_str();
  command
      ->add_option("--rows", options.rows, "Tokens of each input, batch and step that errors use")
      ->transform(options::whole_number(1, 1 << 20))
      ->capture_default_str();
  command->add_option("-o,--output", arguments->output, "Write the report as JSON to this file");
  command->add_option("--plots", arguments->plots, "Write the charts as SVG to this folder");
  command->add_flag("--json", arguments->json, "Print the report as JSON");
  arguments->embeddings.add_to(*command, {"--prompts", "--batch"});
  arguments->model.add_to(*command);
  command->footer(
      "Examples:\n"
      "  rtlynx analyze --prompts 16 -o analysis.json --plots analysis\n"
      "  rtlynx analyze --model FLUX.1-dev --prompts-file prompts.txt -o flux.json\n"
      "  rtlynx analyze --model Qwen-Image --prompts-file prompts.txt -o qwen.json\n"
      "  rtlynx analyze --model Z-Image-Turbo --prompts-file prompts.txt --steps 8 -o "
      "z-image.json\n"
      "kept: share of the energy that the 2 largest of every 4 values hold, 0.867 for a Gaussian;\n"
      "near zero: share below a tenth of the root mean square; rank: directions that an input\n"
      "uses. Errors are relative, of one layer's output: weights pruned by magnitude and Wanda,\n"
      "activations naive and with norm, without any compensation.");
  command->callback([arguments, command] {
    arguments->embeddings.take(*command);
    analyze_model(*arguments);
  });
}

}  // namespace rtlynx::cli
