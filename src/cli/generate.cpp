// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/draw_pictures.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "compensate/compensation_file.h"
#include "compensate/fold_transform.h"
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
  std::optional<int> steps;
  std::optional<double> guidance;
  std::optional<std::string> negative;
  double true_cfg = 1;
  std::string size;
  std::optional<int> batch;
  int scale = 0;
  std::string mode = "norm";
  std::string compensation;
  std::vector<std::string> loras;
  bool fast = false;
  bool compare = false;
  bool json = false;
  std::string output = "rtlynx.png";
};

// What lynx-mini is drawn with unless options say otherwise.
constexpr int kMiniSteps = 28;
constexpr double kMiniGuidance = 4.0;

int mini_batch(const GenerateOptions& options) { return options.batch.value_or(8); }

using Job = PictureJob;

/// What is drawn beside dense: a mode of the recipe's layers, or a compensation file.
struct Treatment {
  std::string name;
  LayerSetter set_layers;

  void apply(Pipeline& pipeline) const { set_layers(*pipeline.transformer, "paper-flux"); }
};

Treatment of_mode(LinearMode mode) {
  return {.name = std::string(to_string(mode)), .set_layers = set_recipe_to(mode)};
}

Treatment choose_treatment(const GenerateOptions& options) {
  if (options.compensation.empty()) {
    const LinearMode mode = linear_mode_from_string(options.mode);
    if (options.compare && mode == LinearMode::dense) {
      throw UsageError("--compare: required a sparse --mode to set beside dense, got dense");
    }
    return of_mode(mode);
  }
  const ModelCompensation compensation = read_compensation(options.compensation);
  const std::string name = fmt::format("{} (transform {}, rank {})", compensation.method,
                                       compensation.transform, compensation.rank);
  return {.name = name,
          .set_layers = [compensation, file = options.compensation](torch::nn::Module& transformer,
                                                                    std::string_view) {
            apply_compensation(transformer, compensation, file);
            fold_transforms(transformer);
          }};
}

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
  check_output_folder("--output", output);
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

struct PictureSize {
  int width = 0;
  int height = 0;
};

PictureSize parse_size(const std::string& text) {
  PictureSize size;
  int used = 0;
  const int fields = std::sscanf(text.c_str(), "%5dx%5d%n", &size.width, &size.height, &used);
  if (fields != 2 || static_cast<std::size_t>(used) != text.size()) {
    throw UsageError("--size: required WIDTHxHEIGHT such as 64x64, got " + text);
  }
  return size;
}

GenerateRequest make_request(const GenerateOptions& options, const std::vector<Job>& jobs,
                             const Pipeline& pipeline) {
  GenerateRequest request{.prompts = {},
                          .seeds = {},
                          .steps = options.steps.value_or(kMiniSteps),
                          .guidance = options.guidance.value_or(kMiniGuidance),
                          .width = pipeline.trained_size,
                          .height = pipeline.trained_size};
  for (const Job& job : jobs) {
    request.prompts.push_back(job.prompt);
    request.seeds.push_back(job.seed);
  }
  if (!options.size.empty()) {
    const PictureSize size = parse_size(options.size);
    request.width = size.width;
    request.height = size.height;
  }
  if (request.width != pipeline.trained_size || request.height != pipeline.trained_size) {
    fmt::print(stderr, "rtlynx: {} was trained at {}x{}; other sizes may look wrong\n",
               pipeline.name, pipeline.trained_size, pipeline.trained_size);
  }
  return request;
}

std::vector<PngText> png_texts(const GenerateOptions& options, const GenerateRequest& request,
                               const Pipeline& pipeline, const Treatment& treatment,
                               const Job& job) {
  const std::string settings = fmt::format(
      "model {}, mode {}{}{}, steps {}, guidance {}, size {}x{}, batch {}, device {}, dtype {}",
      pipeline.name, options.compare ? "dense and " : "", treatment.name,
      options.fast ? " (fast)" : "", request.steps, request.guidance, request.width, request.height,
      mini_batch(options), pipeline.device_name(), pipeline.dtype_name());
  return {{"prompt", job.prompt},
          {"seed", std::to_string(job.seed)},
          {"settings", settings},
          {"Software", std::string("rtlynx ") + version()}};
}

// Said before anything is drawn: the PNG writer would refuse a larger picture afterwards.
void check_picture_size(const GenerateRequest& request, bool compare, int scale) {
  constexpr int kMaxSide = 8192;
  const int width = scale * (compare ? side_by_side_width(request.width) : request.width);
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

Result finish(const Job& job, const Image& sparse, const Image* dense, int scale) {
  Result result{.picture = enlarge(dense ? side_by_side(*dense, sparse) : sparse, scale),
                .entry = {{"path", job.path.string()}, {"prompt", job.prompt}, {"seed", job.seed}}};
  if (dense) {
    const double decibels = psnr(*dense, sparse);
    // JSON has no infinity; identical pictures have no finite PSNR.
    result.entry["psnr"] =
        std::isfinite(decibels) ? nlohmann::ordered_json(decibels) : nlohmann::ordered_json();
    result.entry["ssim"] = ssim(*dense, sparse);
  }
  return result;
}

void print_line(const nlohmann::ordered_json& entry, const std::string& mode) {
  fmt::print("{}  seed {}  \"{}\"", entry["path"].get<std::string>(),
             entry["seed"].get<std::uint64_t>(), entry["prompt"].get<std::string>());
  if (entry.contains("ssim")) {
    const auto& decibels = entry["psnr"];
    fmt::print("  {} against dense: PSNR {}, SSIM {:.3f}", mode,
               decibels.is_null() ? "infinite" : fmt::format("{:.1f} dB", decibels.get<double>()),
               entry["ssim"].get<double>());
  }
  fmt::print("\n");
  std::fflush(stdout);
}

/// Draws all jobs in one way and hands over each batch; returns the seconds per step.
double draw(Pipeline& pipeline, const GenerateRequest& request, int batch,
            const Treatment& treatment,
            const std::function<void(std::size_t, std::vector<Image>)>& on_images) {
  treatment.apply(pipeline);
  const auto batches = static_cast<int>((request.prompts.size() + batch - 1) / batch);
  ProgressBar bar(treatment.name, std::int64_t{batches} * request.steps);
  const auto start = std::chrono::steady_clock::now();
  pipeline.generate_in_batches(request, batch, on_images,
                               [&](int finished, int) { bar.update(finished); });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return elapsed.count() / (batches * request.steps);
}

/// "FILE" or "FILE:STRENGTH".
LoraFile parse_lora(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return {.path = text};
  const std::string number = text.substr(colon + 1);
  char* end = nullptr;
  const double strength = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0' || !std::isfinite(strength)) {
    throw UsageError("--lora: required FILE or FILE:STRENGTH, got " + text);
  }
  return {.path = text.substr(0, colon), .strength = strength};
}

/// The same with a model of diffusers.
void generate_with_model(const GenerateOptions& options, const std::filesystem::path& folder) {
  if (options.fast) throw UsageError("--fast: required lynx-mini, got another model");
  if (!options.loras.empty() && !options.compensation.empty()) {
    throw UsageError(
        "--lora: required no --compensation, which was made for other weights, got both");
  }
  Treatment treatment = choose_treatment(options);
  PictureRun run{.jobs = plan_jobs(options),
                 .request = {.prompts = {},
                             .seeds = {},
                             .negative = options.negative,
                             .true_cfg = options.true_cfg,
                             .guidance = options.guidance,
                             .steps = options.steps,
                             .width = {},
                             .height = {},
                             .batch = options.batch.value_or(1)},
                 .mode = std::move(treatment.name),
                 .loras = {},
                 .set_layers = std::move(treatment.set_layers),
                 .compare = options.compare,
                 .scale = std::max(options.scale, 1),
                 .json = options.json};
  if (!options.size.empty()) {
    const PictureSize size = parse_size(options.size);
    run.request.width = size.width;
    run.request.height = size.height;
  }
  for (const std::string& lora : options.loras) run.loras.push_back(parse_lora(lora));
  options.model.set_threads();
  draw_pictures(folder, options.model.tensor_options(), run);
}

void generate(const GenerateOptions& options) {
  const std::filesystem::path folder = options.model.model_folder();
  if (holds_text_to_image_model(folder)) return generate_with_model(options, folder);
  if (options.negative || options.true_cfg != 1 || !options.loras.empty()) {
    throw UsageError(
        "--negative, --true-cfg, --lora: required a model of diffusers, got lynx-mini");
  }
  const Treatment treatment = choose_treatment(options);
  const std::vector<Job> jobs = plan_jobs(options);
  Pipeline pipeline = options.model.load();
  for (auto& [name, linear] : named_linears(*pipeline.transformer)) {
    linear->set_dense_where_faster(options.fast);
  }
  const GenerateRequest request = make_request(options, jobs, pipeline);
  const int scale = options.scale > 0 ? options.scale : (options.compare ? 4 : 1);

  check_picture_size(request, options.compare, scale);
  treatment.apply(pipeline);  // what does not fit is refused before dense is drawn

  std::vector<Image> dense;
  nlohmann::ordered_json report = {
      {"model", pipeline.name},       {"mode", treatment.name},
      {"fast", options.fast},         {"steps", request.steps},
      {"guidance", request.guidance}, {"images", nlohmann::ordered_json::array()}};
  if (options.compare) {
    report["seconds_per_step_dense"] =
        draw(pipeline, request, mini_batch(options), of_mode(LinearMode::dense),
             [&](std::size_t, std::vector<Image> images) {
               std::move(images.begin(), images.end(), std::back_inserter(dense));
             });
  }
  // Written as soon as they are drawn: an interrupted run keeps what it has.
  report["seconds_per_step"] =
      draw(pipeline, request, mini_batch(options), treatment,
           [&](std::size_t first, std::vector<Image> images) {
             for (std::size_t i = 0; i < images.size(); ++i) {
               const Job& job = jobs[first + i];
               Result result =
                   finish(job, images[i], options.compare ? &dense[first + i] : nullptr, scale);
               write_png(job.path, result.picture,
                         png_texts(options, request, pipeline, treatment, job));
               if (!options.json) print_line(result.entry, treatment.name);
               report["images"].push_back(std::move(result.entry));
             }
           });
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
  command->add_option("--steps", options->steps, "Denoising steps [default: the model's]")
      ->check(CLI::Range(1, 1000));
  command
      ->add_option(
          "--guidance", options->guidance,
          "lynx-mini: classifier-free guidance, 1 is off; FLUX.1-dev: the strength that it "
          "reads [default: the model's]")
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--negative", options->negative,
                      "What not to draw, with --true-cfg; twice the work");
  command
      ->add_option("--true-cfg", options->true_cfg,
                   "Classifier-free guidance away from --negative; 1 is off")
      ->check(CLI::Range(1.0, 100.0))
      ->capture_default_str();
  command->add_option("--size", options->size, "WIDTHxHEIGHT in pixels [default: as trained]");
  command
      ->add_option("--batch", options->batch,
                   "Images drawn at once [default: 8 with lynx-mini, else 1]")
      ->check(CLI::Range(1, 4096));
  CLI::Option* mode =
      command->add_option("--mode", options->mode, "What the recipe's Linear layers do")
          ->check(CLI::IsMember({"dense", "naive", "norm"}))
          ->capture_default_str();
  command
      ->add_option("--compensation", options->compensation,
                   "A file that rtlynx calibrate made for this model: its layers, and what they do")
      ->excludes(mode);
  command
      ->add_option("--lora", options->loras,
                   "A LoRA for the model, as FILE or FILE:STRENGTH; may be given several times")
      ->allow_extra_args(false);
  command->add_flag("--fast", options->fast, "Where a dense GEMM is faster on this GPU, run it");
  command->add_flag("--compare", options->compare,
                    "Draw dense and sparse: one picture with dense, sparse, |difference| x 4");
  command
      ->add_option("--scale", options->scale,
                   "Enlarge each pixel to N x N [default: 1, lynx-mini with --compare: 4]")
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
      "  rtlynx generate --model FLUX.1-schnell -p \"a red fox in the snow\" -o fox.png\n"
      "  rtlynx generate --compensation best.safetensors -p \"the word cat in white top right\"\n"
      "The same command on the same device with the same threads writes the same pictures.");
  command->callback([options] { generate(*options); });
}

}  // namespace rtlynx::cli
