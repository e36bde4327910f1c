// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/draw_pictures.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/picture_texts.h"
#include "cli/progress.h"
#include "cli/prompts.h"
#include "compensate/compensation_file.h"
#include "compensate/fold_transform.h"
#include "io/png.h"
#include "io/terminal.h"
#include "io/text.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/recipe.h"
#include "options/number.h"
#include "pipeline/comparison.h"
#include "rtlynx/version.h"
#include "study/step_time.h"

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
  std::optional<std::string> mode;
  std::string compensation;
  std::string beside;
  std::vector<std::string> loras;
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

  void apply(Pipeline& pipeline) const {
    set_layers(*pipeline.transformer, pipeline.transformer->groups());
  }
};

Treatment of_mode(LinearMode mode) {
  return {.name = std::string(to_string(mode)), .set_layers = set_recipe_to(mode)};
}

Treatment of_file(const std::string& file) {
  const ModelCompensation compensation = read_compensation(file);
  const std::string name = fmt::format("{} (transform {}, rank {})", compensation.method,
                                       compensation.transform, compensation.rank);
  return {.name = name,
          .set_layers = [compensation, file](torch::nn::Module& transformer,
                                             const std::vector<LayerGroup>& groups) {
            apply_compensation(transformer, compensation, file);
            fold_transforms(transformer, groups);
          }};
}

/// The file that is named, or the one that the model brings along where no mode is named.
std::string compensation_of(const GenerateOptions& options) {
  if (!options.compensation.empty() || options.mode) return options.compensation;
  const std::filesystem::path own = options.model.model_folder() / "compensation.safetensors";
  return std::filesystem::exists(own) ? own.string() : std::string();
}

Treatment choose_treatment(const GenerateOptions& options) {
  const std::string file = compensation_of(options);
  if (!file.empty()) return of_file(file);
  const LinearMode mode = linear_mode_from_string(options.mode.value_or("norm"));
  if (options.compare && mode == LinearMode::dense) {
    throw UsageError("--compare: required a sparse --mode to set beside dense, got dense");
  }
  return of_mode(mode);
}

std::vector<Prompt> all_prompts(const GenerateOptions& options) {
  std::vector<Prompt> prompts = prompts_of_options(options.prompts);
  if (!options.prompts_file.empty()) {
    std::vector<Prompt> more = read_prompts(options.prompts_file);
    std::move(more.begin(), more.end(), std::back_inserter(prompts));
  }
  if (prompts.empty()) throw UsageError("generate: required --prompt or --prompts-file, got none");
  return prompts;
}

void check_seeds(std::uint64_t first, std::size_t count) {
  if (count - 1 <= std::numeric_limits<std::uint64_t>::max() - first) return;
  throw UsageError(
      fmt::format("--seed: required seeds up to 2^64 - 1 for all {} images, got {} for the first",
                  count, first));
}

// out.png for one picture, out-0000.png, out-0001.png and so on for several.
std::vector<Job> plan_jobs(const GenerateOptions& options, const std::vector<Prompt>& prompts) {
  const std::filesystem::path output = options.output;
  if (output.extension() != ".png") {
    throw UsageError("--output: required a name that ends in .png, got " + options.output);
  }
  check_seeds(options.seed, prompts.size() * static_cast<std::size_t>(options.images));
  std::vector<Job> jobs;
  for (const Prompt& prompt : prompts) {
    for (int i = 0; i < options.images; ++i) {
      jobs.push_back({prompt.text, options.seed + jobs.size(), output});
    }
  }
  for (std::size_t i = 0; jobs.size() > 1 && i < jobs.size(); ++i) {
    jobs[i].path.replace_filename(fmt::format("{}-{:04}.png", output.stem().string(), i));
  }
  return jobs;
}

void check_files(const GenerateOptions& options, const std::vector<Job>& jobs) {
  FilePlan files;
  files.read_model(options.model.model_folder());
  files.read("--compensation", compensation_of(options));
  files.read("--beside", options.beside);
  if (options.prompts_file != "-") files.read("--prompts-file", options.prompts_file);
  for (const Job& job : jobs) files.write("--output", job.path);
  files.check();
}

struct PictureSize {
  int width = 0;
  int height = 0;
};

PictureSize parse_size(const std::string& text) {
  const std::size_t cross = std::min(text.find('x'), text.size());
  const auto width = parse_whole_number<int>(std::string_view(text).substr(0, cross));
  const auto height =
      parse_whole_number<int>(std::string_view(text).substr(std::min(cross + 1, text.size())));
  if (!width || !height) {
    throw UsageError("--size: required WIDTHxHEIGHT such as 64x64, got " + in_quotes(text));
  }
  return {*width, *height};
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
    terminal::say(fmt::format("{} was trained at {}x{}; other sizes may look wrong", pipeline.name,
                              pipeline.trained_size, pipeline.trained_size));
  }
  return request;
}

std::vector<PngText> texts_of(const GenerateOptions& options, const GenerateRequest& request,
                              const Pipeline& pipeline, const Treatment& treatment,
                              const Job& job) {
  return picture_texts({{"prompt", job.prompt},
                        {"seed", job.seed},
                        {"model", pipeline.name},
                        {"mode", std::string(options.compare ? "dense and " : "") + treatment.name},
                        {"steps", request.steps},
                        {"guidance", request.guidance},
                        {"width", request.width},
                        {"height", request.height},
                        {"batch", pipeline.pictures_at_once(mini_batch(options))},
                        {"device", pipeline.device_name()},
                        {"dtype", pipeline.dtype_name()}});
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

Result finish(const Job& job, const Image& sparse, const Image* dense, const Image* other,
              int scale) {
  Result result{
      .picture = enlarge(dense ? side_by_side(*dense, sparse, other) : sparse, scale),
      .entry = {{"path", path_text(job.path)}, {"prompt", job.prompt}, {"seed", job.seed}}};
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
  std::string line = fmt::format("{}  seed {}  {}", entry["path"].get<std::string>(),
                                 entry["seed"].get<std::uint64_t>(),
                                 in_quotes(entry["prompt"].get<std::string>()));
  if (entry.contains("ssim")) {
    const auto& decibels = entry["psnr"];
    line += fmt::format(
        "  {} against dense: PSNR {}, SSIM {:.3f}", mode,
        decibels.is_null() ? "infinite" : fmt::format("{:.1f} dB", decibels.get<double>()),
        entry["ssim"].get<double>());
  }
  terminal::print("{}\n", line);
}

/// Draws all jobs in one way and hands over each batch; returns the seconds per step.
double draw(Pipeline& pipeline, const GenerateRequest& request, int batch,
            const Treatment& treatment,
            const std::function<void(std::size_t, std::vector<Image>)>& on_images) {
  treatment.apply(pipeline);
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
  const auto steps =
      static_cast<double>(request.prompts.size()) * request.steps * (options.compare ? 2 : 1);
  constexpr double kWorthMeasuring = 100;
  if (steps < kWorthMeasuring) return;
  say_duration("generate",
               steps * seconds_per_step(pipeline, mini_batch(options), request.guidance),
               fmt::format("{} pictures of {} steps{}", request.prompts.size(), request.steps,
                           options.compare ? ", each dense and sparse" : ""));
}

/// "FILE" or "FILE:STRENGTH".
LoraFile parse_lora(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return {.path = text};
  const std::optional<double> strength = parse_number(std::string_view(text).substr(colon + 1));
  if (!strength) throw UsageError("--lora: required FILE or FILE:STRENGTH, got " + in_quotes(text));
  return {.path = text.substr(0, colon), .strength = *strength};
}

/// The same with a model of diffusers.
void generate_with_model(const GenerateOptions& options, const std::filesystem::path& folder,
                         std::vector<Job> jobs) {
  if (!options.beside.empty()) throw UsageError("--beside: required lynx-mini, got another model");
  const std::string file = compensation_of(options);
  if (!options.loras.empty() && !file.empty()) {
    throw UsageError("--lora: required no compensation, which was made for other weights, got " +
                     in_quotes(file) + "; --mode draws without it");
  }
  Treatment treatment = choose_treatment(options);
  PictureRun run{.jobs = std::move(jobs),
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
  const std::vector<Prompt> prompts = all_prompts(options);
  std::vector<Job> jobs = plan_jobs(options, prompts);
  check_files(options, jobs);
  const std::filesystem::path folder = options.model.model_folder();
  if (holds_text_to_image_model(folder)) {
    return generate_with_model(options, folder, std::move(jobs));
  }
  if (options.negative || options.true_cfg != 1 || !options.loras.empty()) {
    throw UsageError(
        "--negative, --true-cfg, --lora: required a model of diffusers, got lynx-mini");
  }
  const Treatment treatment = choose_treatment(options);
  std::optional<Treatment> beside;
  if (!options.beside.empty()) beside = of_file(options.beside);
  Pipeline pipeline = options.model.load();
  check_prompts(prompts, pipeline.text_encoder);
  const GenerateRequest request = make_request(options, jobs, pipeline);
  const int scale = options.scale > 0 ? options.scale : (options.compare ? 4 : 1);

  check_picture_size(request, options, scale);
  treatment.apply(pipeline);  // what does not fit is refused before dense is drawn
  say_duration_of(pipeline, request, options);

  std::vector<Image> dense, other;
  const auto keep_in = [](std::vector<Image>& kept) {
    return [&kept](std::size_t, std::vector<Image> images) {
      std::move(images.begin(), images.end(), std::back_inserter(kept));
    };
  };
  nlohmann::ordered_json report = {{"model", pipeline.name},
                                   {"mode", treatment.name},
                                   {"steps", request.steps},
                                   {"guidance", request.guidance},
                                   {"images", nlohmann::ordered_json::array()}};
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
          const Job& job = jobs[first + i];
          Result result = finish(job, images[i], options.compare ? &dense[first + i] : nullptr,
                                 beside ? &other[first + i] : nullptr, scale);
          write_png(job.path, result.picture, texts_of(options, request, pipeline, treatment, job));
          if (!options.json) print_line(result.entry, treatment.name);
          report["images"].push_back(std::move(result.entry));
        }
      });
  if (options.json) print_report(report, "generate");
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Draw images from prompts, dense or sparse");
  command->add_option("-p,--prompt", options->prompts, "What to draw; may be given several times")
      ->allow_extra_args(false);
  command->add_option(
      "--prompts-file", options->prompts_file,
      "A text file or pipe, one prompt per line, blank lines left out; - is standard "
      "input");
  command->add_option("-s,--seed", options->seed, "Seed of the first image; image i has seed + i")
      ->transform(options::seed())
      ->capture_default_str();
  command->add_option("-n,--images", options->images, "Images per prompt")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Denoising steps [default: the model's]")
      ->transform(options::whole_number(1, 1000));
  command->add_option("--guidance", options->guidance, kGuidanceHelp)
      ->transform(options::number(0, 100));
  command->add_option("--negative", options->negative,
                      "What not to draw, with --true-cfg; twice the work");
  command
      ->add_option("--true-cfg", options->true_cfg,
                   "Classifier-free guidance away from --negative; 1 is off")
      ->transform(options::number(1, 100))
      ->capture_default_str();
  command->add_option("--size", options->size, "WIDTHxHEIGHT in pixels [default: as trained]");
  command
      ->add_option(
          "--batch", options->batch,
          "Images drawn at once on a GPU, where an image depends on it; on the CPU lynx-mini's are "
          "drawn one after the other [default: 8 with lynx-mini, else 1]")
      ->transform(options::whole_number(1, 4096));
  CLI::Option* mode =
      command
          ->add_option("--mode", options->mode,
                       "What the recipe's Linear layers do [default: what the model's own "
                       "compensation.safetensors says, else norm]")
          ->check(CLI::IsMember({"dense", "naive", "norm"}));
  command
      ->add_option("--compensation", options->compensation,
                   "A file that rtlynx calibrate made for this model: its layers, and what they do")
      ->excludes(mode);
  command
      ->add_option("--lora", options->loras,
                   "A LoRA for the model, as FILE or FILE:STRENGTH; may be given several times")
      ->allow_extra_args(false);
  CLI::Option* compare =
      command->add_flag("--compare", options->compare,
                        "Draw dense and sparse: one picture with dense, sparse, |difference| x 4");
  command
      ->add_option("--beside", options->beside,
                   "With --compare: another file of rtlynx calibrate, as a column before the "
                   "difference; lynx-mini")
      ->needs(compare);
  command
      ->add_option("--scale", options->scale,
                   "Enlarge each pixel to N x N [default: 1, lynx-mini with --compare: 4]")
      ->transform(options::whole_number(1, 32));
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
      "The same command on the same device with the same threads writes the same pictures; on the\n"
      "CPU a prompt and a seed give one picture whatever else is drawn with it. On a GPU another\n"
      "batch rounds otherwise, and the choice of channels turns that into a visibly other picture\n"
      "(docs/quality.md, noise floor). A picture takes about 5 s on two CPU cores.");
  command->callback([options] { generate(*options); });
}

}  // namespace rtlynx::cli
