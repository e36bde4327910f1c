// SPDX-License-Identifier: Apache-2.0
#include "cli/embedding_options.h"

#include <utility>

#include "base/error.h"
#include "cli/progress.h"
#include "io/json.h"
#include "io/text.h"
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
                   "; with a negative prompt among the embeddings there is --true-cfg");
}

}  // namespace

CLI::Option* EmbeddingOptions::add_to(CLI::App& command) {
  CLI::Option* const embeddings = command.add_option(
      "--embeddings", file,
      "FLUX.1, Qwen-Image, Z-Image: what the text encoders gave for each prompt, safetensors "
      "(docs/compensation.md). One picture of each is drawn");
  const auto add_side = [&](const char* name, std::int64_t& side) {
    command.add_option(name, side, "With --embeddings: pixels of the pictures, a multiple of 16")
        ->transform(options::whole_number(16, 8192))
        ->needs(embeddings)
        ->capture_default_str();
  };
  add_side("--width", run.width);
  add_side("--height", run.height);
  command
      .add_option("--true-cfg", run.true_cfg,
                  "With --embeddings of a negative prompt: classifier-free guidance, above 1")
      ->transform(options::number(1, 100))
      ->needs(embeddings)
      ->capture_default_str();
  return embeddings;
}

std::unique_ptr<BlockwiseTransformer> EmbeddedModel::load() const {
  return open_blockwise(folder, tensors, loading_bar("loading"));
}

EmbeddedModel open_embedded(const ModelOptions& model, const EmbeddingOptions& options,
                            const CalibrationRun& run) {
  model.set_threads();
  EmbeddedModel opened{.folder = model.model_folder() / "transformer",
                       .tensors = model.tensor_options(),
                       .planned = {},
                       .scheduler = {},
                       .embeddings = {},
                       .run = options.run};
  opened.run.steps = run.steps;
  opened.run.seed = run.seed;
  opened.run.guidance = options.guidance_given ? run.guidance : kGuidance;
  opened.planned = open_blockwise(opened.folder, opened.tensors.device(torch::kMeta));
  check_guidance(options, *opened.planned);
  opened.scheduler = read_scheduler(model.model_folder());
  opened.embeddings = read_prompt_embeddings(options.file, opened.planned->features());
  check_run(*opened.planned, opened.embeddings, opened.run);
  return opened;
}

}  // namespace rtlynx::cli
