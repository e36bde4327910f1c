// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "io/file.h"
#include "io/png.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/recipe.h"
#include "pipeline/comparison.h"
#include "rtlynx/version.h"

namespace rtlynx::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  std::vector<std::string> prompts;
  std::string prompts_file;
  std::uint64_t seed = 0;
  int images = 1;
  int steps = 28;
  double guidance = 4.0;
  std::string size;
  int batch = 8;
  int scale = 0;
  std::string mode = "norm";
  bool compare = false;
  bool json = false;
  std::string output = "rtlynx.png";
};

/// One picture to make.
struct Job {
  std::string prompt;
  std::uint64_t seed;
  std::filesystem::path path;
};

struct Pictures {
  std::vector<Image> images;
  double seconds_per_step = 0;
};

std::vector<std::string> all_prompts(const GenerateOptions& options) {
  std::vector<std::string> prompts = options.prompts;
  if (!options.prompts_file.empty()) {
    constexpr std::size_t kMaxBytes = 16 << 20;
    std::istringstream lines(read_file(options.prompts_file, kMaxBytes));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) prompts.push_back(line);
    }
  }
  if (prompts.empty()) throw UsageError("generate: required --prompt or --prompts-file, got none");
  return prompts;
}

// out.png for one picture, out-0000.png, out-0001.png and so on for several.
std::vector<Job> plan_jobs(const GenerateOptions& options) {
  const std::filesystem::path output = options.output;
  if (output.extension() != ".png") {
    throw UsageError("--output: required a name that ends in .png, got " + options.output);
  }
  const auto parent = output.has_parent_path() ? output.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(parent)) {
    throw UsageError("--output: required an existing folder, got " + parent.string());
  }
  std::vector<Job> jobs;
  for (const auto& prompt : all_prompts(options)) {
    for (int i = 0; i < options.images; ++i) {
      jobs.push_back({prompt, options.seed + jobs.size(), output});
    }
  }
  for (std::size_t i = 0; jobs.size() > 1 && i < jobs.size(); ++i) {
    jobs[i].path.replace_filename(fmt::format("{}-{:04}.png", output.stem().string(), i));
  }
  return jobs;
}

void parse_size(const std::string& text, GenerateRequest& request) {
  int used = 0;
  const int fields = std::sscanf(text.c_str(), "%5dx%5d%n", &request.width, &request.height, &used);
  if (fields != 2 || static_cast<std::size_t>(used) != text.size()) {
    throw UsageError("--size: required WIDTHxHEIGHT such as 64x64, got " + text);
  }
}

GenerateRequest make_request(const GenerateOptions& options, const Pipeline& pipeline) {
  GenerateRequest request{.prompts = {},
                          .seeds = {},
                          .steps = options.steps,
                          .guidance = options.guidance,
                          .width = pipeline.trained_size,
                          .height = pipeline.trained_size};
  if (!options.size.empty()) parse_size(options.size, request);
  if (request.width != pipeline.trained_size || request.height != pipeline.trained_size) {
    fmt::print(stderr, "rtlynx: {} was trained at {}x{}; other sizes may look wrong\n",
               pipeline.name, pipeline.trained_size, pipeline.trained_size);
  }
  return request;
}

Pictures draw(Pipeline& pipeline, GenerateRequest request, const std::vector<Job>& jobs, int batch,
              LinearMode mode) {
  apply_paper_flux_recipe(*pipeline.transformer, mode);
  const auto count = static_cast<std::int64_t>(jobs.size());
  const std::int64_t batches = (count + batch - 1) / batch;
  ProgressBar bar(std::string(to_string(mode)), batches * request.steps);
  Pictures pictures;
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t first = 0; first < count; first += batch) {
    request.prompts.clear();
    request.seeds.clear();
    for (std::int64_t i = first; i < std::min(count, first + batch); ++i) {
      request.prompts.push_back(jobs[i].prompt);
      request.seeds.push_back(jobs[i].seed);
    }
    const std::int64_t before = first / batch * request.steps;
    auto images = pipeline.generate(request, [&](int done, int) { bar.update(before + done); });
    std::move(images.begin(), images.end(), std::back_inserter(pictures.images));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  pictures.seconds_per_step = elapsed.count() / static_cast<double>(batches * request.steps);
  return pictures;
}

std::vector<PngText> png_texts(const GenerateOptions& options, const GenerateRequest& request,
                               const Pipeline& pipeline, const Job& job) {
  const std::string settings = fmt::format(
      "model {}, mode {}{}, steps {}, guidance {}, size {}x{}, batch {}, device {}, dtype {}",
      pipeline.name, options.compare ? "dense and " : "", options.mode, request.steps,
      request.guidance, request.width, request.height, options.batch,
      c10::DeviceTypeName(pipeline.options().device().type(), /*lower_case=*/true),
      pipeline.options().dtype() == torch::kBFloat16 ? "bf16" : "fp32");
  return {{"prompt", job.prompt},
          {"seed", std::to_string(job.seed)},
          {"settings", settings},
          {"Software", std::string("rtlynx ") + version()}};
}

void generate(const GenerateOptions& options) {
  const LinearMode mode = linear_mode_from_string(options.mode);
  if (options.compare && mode == LinearMode::dense) {
    throw UsageError("--compare: required a sparse --mode to set beside dense, got dense");
  }
  const std::vector<Job> jobs = plan_jobs(options);
  Pipeline pipeline = options.model.load();
  const GenerateRequest request = make_request(options, pipeline);

  std::optional<Pictures> dense;
  if (options.compare) dense = draw(pipeline, request, jobs, options.batch, LinearMode::dense);
  const Pictures drawn = draw(pipeline, request, jobs, options.batch, mode);

  nlohmann::ordered_json report = {{"model", pipeline.name},
                                   {"mode", options.mode},
                                   {"steps", request.steps},
                                   {"guidance", request.guidance},
                                   {"seconds_per_step", drawn.seconds_per_step}};
  if (dense) report["seconds_per_step_dense"] = dense->seconds_per_step;
  report["images"] = nlohmann::ordered_json::array();
  const int scale = options.scale > 0 ? options.scale : (options.compare ? 4 : 1);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    nlohmann::ordered_json entry = {
        {"path", jobs[i].path.string()}, {"prompt", jobs[i].prompt}, {"seed", jobs[i].seed}};
    Image picture = drawn.images[i];
    if (dense) {
      const double decibels = psnr(dense->images[i], picture);
      const double similarity = ssim(dense->images[i], picture);
      // JSON has no infinity; identical pictures have no finite PSNR.
      entry["psnr"] = std::isfinite(decibels) ? nlohmann::ordered_json(decibels) : nullptr;
      entry["ssim"] = similarity;
      picture = side_by_side(dense->images[i], picture);
    }
    write_png(jobs[i].path, enlarge(picture, scale),
              png_texts(options, request, pipeline, jobs[i]));
    if (!options.json) {
      fmt::print("{}  seed {}  \"{}\"", jobs[i].path.string(), jobs[i].seed, jobs[i].prompt);
      if (dense) {
        fmt::print("  {} against dense: PSNR {:.1f} dB, SSIM {:.3f}", options.mode,
                   entry["psnr"].is_null() ? INFINITY : entry["psnr"].get<double>(),
                   entry["ssim"].get<double>());
      }
      fmt::print("\n");
    }
    report["images"].push_back(std::move(entry));
  }
  if (options.json) fmt::print("{}\n", report.dump(2));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Draw images from prompts, dense or sparse");
  command->add_option("-p,--prompt", options->prompts, "What to draw; may be given several times")
      ->allow_extra_args(false);
  command->add_option("--prompts-file", options->prompts_file, "A text file, one prompt per line");
  command->add_option("-s,--seed", options->seed, "Seed of the first image; image i has seed + i")
      ->capture_default_str();
  command->add_option("-n,--images", options->images, "Images per prompt")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Denoising steps")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--guidance", options->guidance, "Classifier-free guidance; 1 is off")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--size", options->size, "WIDTHxHEIGHT in pixels [default: as trained]");
  command->add_option("--batch", options->batch, "Images drawn at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--mode", options->mode, "What the recipe's Linear layers do")
      ->check(CLI::IsMember({"dense", "naive", "norm"}))
      ->capture_default_str();
  command->add_flag("--compare", options->compare,
                    "Draw dense and sparse: one picture with dense, sparse, |difference| x 4");
  command
      ->add_option("--scale", options->scale,
                   "Enlarge each pixel to N x N [default: 1, with --compare 4]")
      ->check(CLI::Range(1, 32));
  command
      ->add_option("-o,--output", options->output,
                   "PNG file; several images get -0000, -0001 ... before .png")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print a JSON report instead of text");
  options->model.add_to(*command);
  command->footer(
      "Examples:\n"
      "  rtlynx generate -p \"a large red circle top left\" -o circle.png\n"
      "  rtlynx generate --compare -p \"two small blue rings bottom right\" -n 4 --json\n"
      "The same command on the same device with the same threads writes the same pictures.");
  command->callback([options] { generate(*options); });
}

}  // namespace rtlynx::cli
