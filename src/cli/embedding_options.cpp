// SPDX-License-Identifier: Apache-2.0
#include "cli/embedding_options.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "base/error.h"
#include "cli/progress.h"
#include "cli/prompts.h"
#include "io/json.h"
#include "io/text.h"
#include "models/text_to_image/registry.h"
#include "options/number.h"

namespace rtlynx::cli {
namespace {

constexpr double kGuidance = 3.5;  // FLUX.1's own

SchedulerConfig read_scheduler(const std::filesystem::path& model) {
  const std::filesystem::path path = model / "scheduler" / "scheduler_config.json";
  return scheduler_config_from_json(read_json_file(path), printable(path.string()));
}

void check_guidance(const EmbeddingOptions& options, const BlockwiseTransformer& model) {
  if (!options.guidance_given || model.reads_guidance()) return;
  throw UsageError("--guidance: required a model that reads it, got " + model.class_name() +
                   "; with a negative prompt there is --true-cfg");
}

/// One size, and seeds that follow one another, are all pictures'.
void check_plain(const Prompt& prompt) {
  if (!prompt.seed && !prompt.size) return;
  throw UsageError(prompt.where +
                   ": required a prompt alone, as --seed, --width and --height are "
                   "those of all pictures, got a " +
                   (prompt.seed ? "seed" : "size") + " as well");
}

void read_texts(const EmbeddingOptions& options, EmbeddedModel& opened) {
  for (const Prompt& prompt : read_prompts(options.prompts_file)) {
    check_plain(prompt);
    opened.prompts.push_back(prompt.text);
  }
  opened.negative = options.negative;
}

std::set<std::string> all_texts(const EmbeddedModel& opened) {
  std::set<std::string> texts(opened.prompts.begin(), opened.prompts.end());
  if (opened.negative) texts.insert(*opened.negative);
  return texts;
}

LoadProgress part_bar(std::string_view part) {
  return loading_bar(fmt::format("loading {}", part));
}

/// As many prompts as are going to be encoded, for what is checked before.
PromptEmbeddings without_features(const EmbeddedModel& opened) {
  PromptEmbeddings embeddings;
  embeddings.prompts.resize(opened.prompts.size());
  if (opened.negative) embeddings.negative.emplace();
  return embeddings;
}

}  // namespace

void EmbeddingOptions::add_to(CLI::App& command, const std::vector<const char*>& of_scenes) {
  CLI::Option* const texts = command.add_option(
      "--prompts-file", prompts_file,
      "FLUX.1, Qwen-Image, Z-Image: a text file or pipe, one prompt per line, for the model's own "
      "text encoders; - is standard input. One picture of each is drawn");
  CLI::Option* const embeddings =
      command
          .add_option("--embeddings", file,
                      "In place of --prompts-file: what text encoders gave for each prompt, "
                      "safetensors (docs/compensation.md)")
          ->excludes(texts);
  for (const char* name : of_scenes) {
    texts->excludes(name);
    embeddings->excludes(name);
  }
  command
      .add_option("--negative", negative,
                  "With --prompts-file: what not to draw, with --true-cfg; twice the work")
      ->needs(texts);
  const auto add_side = [&](const char* name, std::int64_t& side) {
    command.add_option(name, side, "With these prompts: pixels of the pictures, a multiple of 16")
        ->transform(options::whole_number(16, 8192))
        ->capture_default_str();
  };
  add_side("--width", run.width);
  add_side("--height", run.height);
  command
      .add_option("--true-cfg", run.true_cfg,
                  "With a negative prompt: classifier-free guidance away from it, above 1")
      ->transform(options::number(1, 100))
      ->capture_default_str();
}

void EmbeddingOptions::take(const CLI::App& command) {
  guidance_given = command.count("--guidance") > 0;
  if (is_given()) return;
  for (const char* name : {"--width", "--height", "--true-cfg"}) {
    if (command.count(name) == 0) continue;
    throw UsageError(std::string(name) +
                     ": required --prompts-file or --embeddings with it, got neither");
  }
}

void EmbeddingOptions::add_to(FilePlan& files) const {
  files.read("--embeddings", file);
  if (prompts_file != "-") files.read("--prompts-file", prompts_file);
}

std::unique_ptr<BlockwiseTransformer> EmbeddedModel::load() {
  if (encoders) {
    embeddings = encode_prompts(*encoders, planned->features(), prompts, negative, tensors,
                                part_bar, loading_bar("encoding prompts", ProgressUnit::steps));
  }
  return open_blockwise(folder, tensors, loading_bar("loading"));
}

EmbeddedModel open_embedded(const ModelOptions& model, const EmbeddingOptions& options,
                            const CalibrationRun& run) {
  model.set_threads();
  const std::filesystem::path whole = model.model_folder();
  EmbeddedModel opened{.folder = whole / "transformer",
                       .tensors = model.tensor_options(),
                       .planned = {},
                       .scheduler = {},
                       .run = options.run,
                       .embeddings = {},
                       .encoders = {},
                       .prompts = {},
                       .negative = {}};
  opened.run.steps = run.steps;
  opened.run.seed = run.seed;
  opened.run.guidance = options.guidance_given ? run.guidance : kGuidance;
  if (!options.prompts_file.empty()) read_texts(options, opened);
  opened.planned = open_blockwise(opened.folder, opened.tensors.device(torch::kMeta));
  check_guidance(options, *opened.planned);
  opened.scheduler = read_scheduler(whole);
  if (options.prompts_file.empty()) {
    opened.embeddings = read_prompt_embeddings(options.file, opened.planned->features());
  } else {
    opened.encoders = open_text_to_image_model(whole);
    opened.embeddings = without_features(opened);
  }
  check_run(*opened.planned, opened.embeddings, opened.run);
  if (opened.encoders) say_what_is_cut(*opened.encoders, all_texts(opened));
  return opened;
}

}  // namespace rtlynx::cli
