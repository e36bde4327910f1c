// SPDX-License-Identifier: Apache-2.0
#include "cli/draw_mini.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/output.h"
#include "cli/picture_texts.h"
#include "cli/progress.h"
#include "io/png.h"
#include "io/terminal.h"
#include "io/text.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "mini/step_time.h"
#include "pipeline/comparison.h"

namespace rtlynx::cli {
namespace {

// What lynx-mini is drawn with unless options say otherwise.
constexpr int kMiniSteps = 28;
constexpr double kMiniGuidance = 4.0;

int mini_batch(const GenerateOptions& options) { return options.batch.value_or(8); }

void apply(const Treatment& treatment, Pipeline& pipeline) {
  treatment.set_layers(*pipeline.transformer, pipeline.transformer->groups(), /*choice=*/{},
                       /*updates=*/{});
}

GenerateRequest make_request(const GenerateOptions& options, const std::vector<PictureJob>& jobs,
                             const Pipeline& pipeline) {
  GenerateRequest request{.prompts = {},
                          .seeds = {},
                          .steps = options.steps.value_or(kMiniSteps),
                          .guidance = options.guidance.value_or(kMiniGuidance),
                          .width = pipeline.trained_size,
                          .height = pipeline.trained_size};
  for (const PictureJob& job : jobs) {
    request.prompts.push_back(job.prompt);
    request.seeds.push_back(job.seed);
  }
  if (!options.size.empty()) {
    const PictureSize size = parse_size(options.size, "--size");
    request.width = size.width;
    request.height = size.height;
  }
  if (request.width != pipeline.trained_size || request.height != pipeline.trained_size) {
    terminal::say(fmt::format("{} was trained at {}x{}; other sizes may look wrong", pipeline.name,
                              pipeline.trained_size, pipeline.trained_size));
  }
  return request;
}

std::vector<PngText> texts_of(const GenerateOptions& options, const GenerateRequest& request,
                              const Pipeline& pipeline, const Treatment& treatment,
                              const PictureJob& job) {
  nlohmann::ordered_json facts = {
      {"prompt", job.prompt},
      {"seed", job.seed},
      {"model", pipeline.name},
      {"mode", std::string(options.compare ? "dense and " : "") + treatment.name},
      {"steps", request.steps},
      {"guidance", request.guidance},
      {"width", request.width},
      {"height", request.height},
      {"batch", pipeline.pictures_at_once(mini_batch(options))},
      {"device", pipeline.device_name()},
      {"dtype", pipeline.dtype_name()}};
  const auto add_file = [&facts](const char* key, const std::filesystem::path& file) {
    if (!file.empty()) facts[key] = path_text(file.filename());
  };
  add_file("compensation", treatment.file);
  add_file("beside", options.beside);
  return picture_texts(facts);
}

// Said before anything is drawn: the PNG writer would refuse a larger picture afterwards.
void check_picture_size(const GenerateRequest& request, const GenerateOptions& options, int scale) {
  constexpr int kMaxSide = 8192;
  const int width =
      scale * (options.compare ? side_by_side_width(request.width, !options.beside.empty())
                               : request.width);
  if (std::max(width, scale * request.height) > kMaxSide) {
    throw UsageError(
        fmt::format("--scale: required pictures of at most {} pixels a side, got {}x{}", kMaxSide,
                    width, scale * request.height));
  }
}

// The picture to write for a job and its line of the report.
struct Result {
  Image picture;
  nlohmann::ordered_json entry;
};

nlohmann::ordered_json likeness(const Image& dense, const Image& sparse) {
  const double decibels = psnr(dense, sparse);
  // JSON has no infinity; identical pictures have no finite PSNR.
  return {{"psnr",
           std::isfinite(decibels) ? nlohmann::ordered_json(decibels) : nlohmann::ordered_json()},
          {"ssim", ssim(dense, sparse)}};
}

Result finish(const PictureJob& job, const Image& sparse, const Image* dense, const Image* other,
              int scale) {
  Result result{
      .picture = enlarge(dense ? side_by_side(*dense, sparse, other) : sparse, scale),
      .entry = {{"path", path_text(job.path)}, {"prompt", job.prompt}, {"seed", job.seed}}};
  if (dense) result.entry.update(likeness(*dense, sparse));
  if (dense && other) result.entry["beside"] = likeness(*dense, *other);
  return result;
}

std::string likeness_text(const nlohmann::ordered_json& likeness) {
  const auto& decibels = likeness["psnr"];
  return fmt::format(
      "PSNR {}, SSIM {:.3f}",
      decibels.is_null() ? "infinite" : fmt::format("{:.1f} dB", decibels.get<double>()),
      likeness["ssim"].get<double>());
}

void print_line(const nlohmann::ordered_json& entry, const std::string& mode,
                const std::optional<Treatment>& beside) {
  std::string line = fmt::format("{}  seed {}  {}", entry["path"].get<std::string>(),
                                 entry["seed"].get<std::uint64_t>(),
                                 in_quotes(entry["prompt"].get<std::string>()));
  if (entry.contains("ssim")) {
    line += fmt::format("  {} against dense: {}", mode, likeness_text(entry));
  }
  if (beside) line += fmt::format("; {}: {}", beside->name, likeness_text(entry["beside"]));
  terminal::print("{}\n", line);
}

/// Draws all jobs in one way and hands over each batch; returns the seconds per step.
double draw(Pipeline& pipeline, const GenerateRequest& request, int batch,
            const Treatment& treatment,
            const std::function<void(std::size_t, std::vector<Image>)>& on_images) {
  apply(treatment, pipeline);
  std::optional<ProgressBar> bar;
  int all_steps = 1;
  const auto start = std::chrono::steady_clock::now();
  pipeline.generate_in_batches(request, batch, on_images, [&](int finished, int steps) {
    if (!bar) bar.emplace(treatment.name, steps);
    all_steps = steps;
    bar->update(finished);
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return elapsed.count() / all_steps;
}

void say_duration_of(Pipeline& pipeline, const GenerateRequest& request,
                     const GenerateOptions& options) {
  const int ways = 1 + (options.compare ? 1 : 0) + (options.beside.empty() ? 0 : 1);
  const auto steps = static_cast<double>(request.prompts.size()) * request.steps * ways;
  constexpr double kWorthMeasuring = 100;
  if (steps < kWorthMeasuring) return;
  say_duration("generate",
               steps * seconds_per_step(pipeline, mini_batch(options), request.guidance),
               fmt::format("{} pictures of {} steps{}", request.prompts.size(), request.steps,
                           options.compare ? ", each dense and sparse" : ""));
}

}  // namespace

void draw_mini(const GenerateOptions& options, const std::vector<Prompt>& prompts,
               const std::vector<PictureJob>& jobs) {
  const Treatment treatment = choose_treatment(options);
  std::optional<Treatment> beside;
  if (!options.beside.empty()) beside = of_file(options.beside, /*with_dense=*/false);
  Pipeline pipeline = options.model.load();
  check_prompts(prompts, pipeline.text_encoder);
  const GenerateRequest request = make_request(options, jobs, pipeline);
  const int scale = options.scale > 0 ? options.scale : (options.compare ? 4 : 1);

  check_picture_size(request, options, scale);
  apply(treatment, pipeline);  // what does not fit is refused before dense is drawn
  say_duration_of(pipeline, request, options);

  std::vector<Image> dense, other;
  const auto keep_in = [](std::vector<Image>& kept) {
    return [&kept](std::size_t, std::vector<Image> images) {
      std::move(images.begin(), images.end(), std::back_inserter(kept));
    };
  };
  nlohmann::ordered_json report = {{"model", pipeline.name}, {"mode", treatment.name}};
  if (!treatment.file.empty()) report["compensation"] = path_text(treatment.file);
  if (beside) report["beside"] = beside->name;
  report.update({{"steps", request.steps}, {"guidance", request.guidance}});
  report["images"] = nlohmann::ordered_json::array();
  if (options.compare) {
    report["seconds_per_step_dense"] =
        draw(pipeline, request, mini_batch(options), of_mode(LinearMode::dense), keep_in(dense));
  }
  if (beside) draw(pipeline, request, mini_batch(options), *beside, keep_in(other));
  // Written as soon as they are drawn: an interrupted run keeps what it has.
  report["seconds_per_step"] = draw(
      pipeline, request, mini_batch(options), treatment,
      [&](std::size_t first, std::vector<Image> images) {
        for (std::size_t i = 0; i < images.size(); ++i) {
          const PictureJob& job = jobs[first + i];
          Result result = finish(job, images[i], options.compare ? &dense[first + i] : nullptr,
                                 beside ? &other[first + i] : nullptr, scale);
          write_png(job.path, result.picture, texts_of(options, request, pipeline, treatment, job));
          if (!options.json) print_line(result.entry, treatment.name, beside);
          report["images"].push_back(std::move(result.entry));
        }
      });
  if (options.json) print_report(report, "generate");
}

}  // namespace rtlynx::cli
