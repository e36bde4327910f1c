// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "io/file.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/recipe.h"
#include "rtlynx/version.h"
#include "study/caption_accuracy.h"

namespace rtlynx::cli {
namespace {

struct EvaluateOptions {
  ModelOptions model;
  int prompts = 500;
  std::uint64_t seed = 2026;
  int steps = 28;
  double guidance = 4.0;
  int batch = 32;
  std::vector<std::string> modes = {"dense", "naive", "norm"};
  std::string output;
  bool json = false;
};

std::int64_t parameter_count(const Pipeline& pipeline) {
  std::int64_t count = 0;
  for (const auto& parameter : pipeline.transformer->parameters()) count += parameter.numel();
  for (const auto& parameter : pipeline.text_encoder->parameters()) count += parameter.numel();
  return count;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Mean PSNR (over the pairs that differ) and SSIM against the dense pictures.
void add_paired_metrics(nlohmann::ordered_json& entry, const std::vector<Image>& dense,
                        const std::vector<Image>& images) {
  std::vector<double> decibels, similarities;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const double value = psnr(dense[i], images[i]);
    if (std::isfinite(value)) decibels.push_back(value);
    similarities.push_back(ssim(dense[i], images[i]));
  }
  entry["psnr_to_dense"] =
      decibels.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(mean(decibels));
  entry["ssim_to_dense"] = mean(similarities);
}

void evaluate(const EvaluateOptions& options) {
  Pipeline pipeline = options.model.load();
  const CaptionSuite suite = make_caption_suite(options.prompts, options.seed);
  const GenerateRequest request{
      .prompts = {}, .seeds = {}, .steps = options.steps, .guidance = options.guidance};
  nlohmann::ordered_json report = {
      {"model", pipeline.name},
      {"rtlynx", version()},
      {"parameters", parameter_count(pipeline)},
      {"prompts", options.prompts},
      {"prompt_seed", options.seed},
      {"steps", options.steps},
      {"guidance", options.guidance},
      {"device", c10::DeviceTypeName(pipeline.options().device().type(), /*lower_case=*/true)},
      {"dtype", pipeline.options().dtype() == torch::kBFloat16 ? "bf16" : "fp32"}};
  nlohmann::ordered_json modes;
  std::vector<Image> dense;
  for (const auto& name : options.modes) {
    apply_paper_flux_recipe(*pipeline.transformer, linear_mode_from_string(name));
    ProgressBar bar(name, options.prompts);
    bar.update(0);
    const AccuracyRun run = measure_caption_accuracy(pipeline, suite, request, options.batch,
                                                     [&](int done) { bar.update(done); });
    nlohmann::ordered_json entry = to_json(run.score);
    report["caption_accuracy_" + name] = entry["shape_color_position"];
    if (name == "dense") dense = run.images;
    if (name != "dense" && !dense.empty()) add_paired_metrics(entry, dense, run.images);
    modes[name] = std::move(entry);
  }
  report["modes"] = std::move(modes);

  if (!options.output.empty()) write_file_atomically(options.output, report.dump(2) + "\n");
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
    return;
  }
  for (const auto& [name, entry] : report["modes"].items()) {
    fmt::print("{}\n", name);
    for (const auto& [key, value] : entry.items()) {
      if (value.is_number()) fmt::print("  {:22} {:8.3f}\n", key, value.get<double>());
    }
  }
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand(
      "evaluate", "Draw held-out captions in several modes and check the pictures");
  command->add_option("--prompts", options->prompts, "Number of held-out captions")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of the list of captions")
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Denoising steps")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--guidance", options->guidance, "Classifier-free guidance")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Images drawn at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--modes", options->modes, "Modes to compare, the first the reference")
      ->delimiter(',')
      ->check(CLI::IsMember({"dense", "naive", "norm"}))
      ->capture_default_str();
  command->add_option("-o,--output", options->output, "Write the report as JSON to this file");
  command->add_flag("--json", options->json, "Print the report as JSON");
  options->model.add_to(*command);
  command->footer(
      "Example:\n"
      "  rtlynx evaluate --prompts 100 --modes dense,norm -o metrics.json\n"
      "An image counts for caption_accuracy_* if all its items are there with their shape (or\n"
      "word), colour and position, and nothing else is.");
  command->callback([options] { evaluate(*options); });
}

}  // namespace rtlynx::cli
