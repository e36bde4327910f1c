// SPDX-License-Identifier: Apache-2.0
#include "cli/generate_options.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/error.h"
#include "cli/sparse_choice.h"
#include "io/terminal.h"
#include "io/text.h"
#include "options/number.h"

namespace rtlynx::cli {
namespace {

void add_prompts(CLI::App& command, GenerateOptions& options) {
  command.add_option("-p,--prompt", options.prompts, "What to draw; may be given several times")
      ->allow_extra_args(false);
  command.add_option(
      "--prompts-file", options.prompts_file,
      "A text file or pipe, one prompt per line, blank lines left out; or JSON lines with prompt, "
      "seed and size; - is standard input");
  command
      .add_option("-s,--seed", options.seed,
                  "Seed of the first image; image i has seed + i, unless its prompt has a seed")
      ->transform(options::seed())
      ->capture_default_str();
  command.add_option("-n,--images", options.images, "Images per prompt")
      ->transform(options::whole_number(1, 100000))
      ->capture_default_str();
  command.add_option("--steps", options.steps, "Denoising steps [default: the model's]")
      ->transform(options::whole_number(1, 1000));
}

void add_guidance(CLI::App& command, GenerateOptions& options) {
  command.add_option("--guidance", options.guidance, kGuidanceHelp)
      ->transform(options::number(0, 100));
  command.add_option("--negative", options.negative,
                     "What not to draw, with --true-cfg; twice the work");
  command
      .add_option("--true-cfg", options.true_cfg,
                  "Classifier-free guidance away from --negative; 1 is off [default: the model's]")
      ->transform(options::number(1, 100));
  command
      .add_option("--cfg-truncation", options.cfg_truncation,
                  "No such guidance once 1 - sigma is larger [default: 1, never]")
      ->transform(options::number(0, 1));
  command
      .add_option("--cfg-normalization", options.cfg_normalization,
                  "How long it may make a step, in lengths of the one without it [default: any]")
      ->transform(options::number(0, 100));
}

void add_picture(CLI::App& command, GenerateOptions& options) {
  command.add_option("--size", options.size, "WIDTHxHEIGHT in pixels [default: as trained]");
  command
      .add_option(
          "--batch", options.batch,
          "Images drawn at once on a GPU, where an image depends on it; on the CPU lynx-mini's are "
          "drawn one after the other [default: 8 with lynx-mini, else 1]")
      ->transform(options::whole_number(1, 4096));
  CLI::Option* image =
      command.add_option("--image", options.image, "A PNG file to begin with, of the size to draw");
  command
      .add_option("--strength", options.strength,
                  "With --image: the share of the steps that change it [default: 0.6]")
      ->transform(options::number(0, 1))
      ->needs(image);
  command.add_option("--prompt-cache", options.prompt_cache,
                     "A folder that keeps what text encoders made of prompts, up to 512 MiB");
  command
      .add_option("--vae-memory", options.vae_memory,
                  "About what the autoencoder may take beside its weights, in MiB: larger pictures "
                  "go through it in tiles, which changes them a little [default: any, tiles only "
                  "where a GPU has no memory left]")
      ->transform(options::whole_number(1, 1 << 20));
}

void add_layers(CLI::App& command, GenerateOptions& options) {
  CLI::Option* mode =
      command
          .add_option("--mode", options.mode,
                      "What the recipe's Linear layers do [default: what the model's own "
                      "compensation.safetensors says, else norm]")
          ->check(CLI::IsMember({"dense", "naive", "norm"}));
  command
      .add_option("--compensation", options.compensation,
                  "A file that rtlynx calibrate made for this model: its layers, and what they do; "
                  "none leaves the model's own out")
      ->excludes(mode);
  command
      .add_option(
          "--lora", options.loras,
          "A LoRA for the model, as FILE or FILE:STRENGTH; may be given several times, also "
          "beside a compensation")
      ->allow_extra_args(false);
  command.add_flag("--force", options.force, kForceHelp);
  command.add_option(
      "--transformer", options.transformer,
      "A file with the transformer's weights in place of the model's, by the names of "
      "diffusers, BFL or ComfyUI");
}

void add_output(CLI::App& command, GenerateOptions& options) {
  CLI::Option* compare =
      command.add_flag("--compare", options.compare,
                       "Draw dense and sparse: one picture with dense, sparse, |difference| x 4");
  command
      .add_option("--beside", options.beside,
                  "With --compare: another file of rtlynx calibrate, as a column before the "
                  "difference; lynx-mini")
      ->needs(compare);
  CLI::Option* preview = command.add_option(
      "--preview", options.preview,
      "A PNG file that shows meanwhile what the first picture of a batch will be, small without "
      "--preview-vae");
  command.add_option("--preview-every", options.preview_every, "Steps between two of these")
      ->transform(options::whole_number(1, 1000))
      ->capture_default_str()
      ->needs(preview);
  command
      .add_option("--preview-vae", options.preview_vae,
                  "A folder with TAEF1 (AutoencoderTiny): previews in full size; FLUX.1, Z-Image")
      ->needs(preview);
  command
      .add_option("--scale", options.scale,
                  "Enlarge each pixel to N x N [default: 1, lynx-mini with --compare: 4]")
      ->transform(options::whole_number(1, 32));
  command
      .add_option("-o,--output", options.output,
                  "PNG file; several images get -0000, -0001 ... before .png")
      ->capture_default_str();
  command.add_flag("--json", options.json, "Print a JSON report instead of text");
  options.model.add_to(command);
}

}  // namespace

void add_generate_options(CLI::App& command, GenerateOptions& options) {
  add_prompts(command, options);
  add_guidance(command, options);
  add_picture(command, options);
  add_layers(command, options);
  add_output(command, options);
}

std::string compensation_of(const GenerateOptions& options) {
  if (options.compensation == "none") return {};
  if (!options.compensation.empty() || options.mode) return options.compensation;
  const std::filesystem::path own = options.model.model_folder() / "compensation.safetensors";
  return std::filesystem::exists(own) ? own.string() : std::string();
}

Treatment choose_treatment(const GenerateOptions& options) {
  const std::string file = compensation_of(options);
  if (!file.empty()) {
    Treatment treatment = of_file(file, options.compare);
    if (options.compensation.empty()) {
      terminal::say(
          fmt::format("generate: sparse by the model's own {}: {}; --compensation none leaves it "
                      "out",
                      path_text(file), treatment.name));
    }
    return treatment;
  }
  const LinearMode mode = linear_mode_from_string(options.mode.value_or("norm"));
  if (options.compare && mode == LinearMode::dense) {
    throw UsageError("--compare: required a sparse --mode to set beside dense, got dense");
  }
  return of_mode(mode);
}

}  // namespace rtlynx::cli
