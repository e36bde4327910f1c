// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/draw_mini.h"
#include "cli/draw_pictures.h"
#include "cli/generate_options.h"
#include "cli/output.h"
#include "cli/prompts.h"
#include "io/png.h"
#include "io/text.h"

namespace rtlynx::cli {
namespace {

using Job = PictureJob;

std::vector<Prompt> all_prompts(const GenerateOptions& options) {
  std::vector<Prompt> prompts = prompts_of_options(options.prompts);
  if (!options.prompts_file.empty()) {
    std::vector<Prompt> more = read_prompts(options.prompts_file);
    std::move(more.begin(), more.end(), std::back_inserter(prompts));
  }
  if (prompts.empty()) throw UsageError("generate: required --prompt or --prompts-file, got none");
  return prompts;
}

void check_seeds(std::uint64_t first, std::size_t count, const std::string& where) {
  if (count - 1 <= std::numeric_limits<std::uint64_t>::max() - first) return;
  throw UsageError(
      fmt::format("{}: required seeds up to 2^64 - 1 for all {} images, got {} for the first",
                  where, count, first));
}

// out.png for one picture, out-0000.png, out-0001.png and so on for several.
std::vector<Job> plan_jobs(const GenerateOptions& options, const std::vector<Prompt>& prompts) {
  const std::filesystem::path output = options.output;
  if (output.extension() != ".png") {
    throw UsageError("--output: required a name that ends in .png, got " + options.output);
  }
  const auto images = static_cast<std::size_t>(options.images);
  check_seeds(options.seed, prompts.size() * images, "--seed");
  if (!options.preview.empty() && std::filesystem::path(options.preview).extension() != ".png") {
    throw UsageError("--preview: required a name that ends in .png, got " +
                     in_quotes(options.preview));
  }
  std::vector<Job> jobs;
  for (const Prompt& prompt : prompts) {
    const std::uint64_t first = prompt.seed.value_or(options.seed + jobs.size());
    if (prompt.seed) check_seeds(first, images, prompt.where + ", seed");
    for (std::size_t i = 0; i < images; ++i) {
      jobs.push_back({prompt.text, first + i, output, prompt.size, prompt.where});
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
  files.read("--image", options.image);
  files.read("--transformer", options.transformer);
  files.read_folder("--preview-vae", options.preview_vae);
  if (options.prompts_file != "-") files.read("--prompts-file", options.prompts_file);
  for (const Job& job : jobs) files.write("--output", job.path);
  files.write("--preview", options.preview);
  files.check();
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
  Treatment treatment = choose_treatment(options);
  PictureRun run{.jobs = std::move(jobs),
                 .request = {.prompts = {},
                             .seeds = {},
                             .negative = options.negative,
                             .true_cfg = options.true_cfg,
                             .cfg_truncation = options.cfg_truncation.value_or(1),
                             .cfg_normalization = options.cfg_normalization.value_or(0),
                             .guidance = options.guidance,
                             .steps = options.steps,
                             .width = {},
                             .height = {},
                             .batch = options.batch.value_or(1),
                             .image = {},
                             .strength = options.strength.value_or(0.6)},
                 .mode = std::move(treatment.name),
                 .compensation = treatment.file,
                 .loras = {},
                 .set_layers = std::move(treatment.set_layers),
                 .image = options.image,
                 .prompt_cache = options.prompt_cache,
                 .transformer_file = options.transformer,
                 .preview = options.preview,
                 .preview_every = options.preview_every,
                 .preview_vae = options.preview_vae,
                 .vae_memory = options.vae_memory,
                 .force = options.force,
                 .compare = options.compare,
                 .scale = std::max(options.scale, 1),
                 .json = options.json};
  if (!options.size.empty()) {
    const PictureSize size = parse_size(options.size, "--size");
    run.request.width = size.width;
    run.request.height = size.height;
  }
  if (!options.image.empty()) run.request.image = read_png(options.image);
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
  const bool with_text_encoders = options.negative || options.true_cfg || options.cfg_truncation ||
                                  options.cfg_normalization || !options.loras.empty() ||
                                  !options.image.empty() || !options.prompt_cache.empty() ||
                                  !options.transformer.empty() || !options.preview.empty() ||
                                  options.vae_memory || options.force;
  if (with_text_encoders) {
    throw UsageError(
        "--negative, --true-cfg, --cfg-truncation, --cfg-normalization, --lora, --image, "
        "--prompt-cache, --transformer, --preview, --vae-memory, --force: required a model of "
        "diffusers, got lynx-mini");
  }
  for (const Prompt& prompt : prompts) {
    if (!prompt.size) continue;
    throw UsageError(prompt.where + ", size: required a model of diffusers, got lynx-mini");
  }
  draw_mini(options, prompts, jobs);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Draw images from prompts, dense or sparse");
  add_generate_options(*command, *options);
  command->footer(
      "Examples:\n"
      "  rtlynx generate -p \"a large red circle top left\" -o circle.png\n"
      "  rtlynx generate --compare -p \"two small blue rings bottom right\" -n 4 --json\n"
      "  rtlynx generate --model FLUX.1-schnell -p \"a red fox in the snow\" -o fox.png\n"
      "  rtlynx generate --model Z-Image-Turbo -p \"a red fox in the snow\" -o fox.png\n"
      "  rtlynx generate --model Qwen-Image -p \"a red fox\" --negative \" \" -o fox.png\n"
      "  rtlynx generate --compensation best.safetensors -p \"the word cat in white top right\"\n"
      "The same command on the same device with the same threads writes the same pictures; on the\n"
      "CPU a prompt and a seed give one picture whatever else is drawn with it. On a GPU another\n"
      "batch rounds otherwise, and the choice of channels turns that into a visibly other picture\n"
      "(docs/quality.md, noise floor). A picture takes about 5 s on two CPU cores. Ctrl-C keeps "
      "the\n"
      "pictures that are finished.");
  command->callback([options] { generate(*options); });
}

}  // namespace rtlynx::cli
