// SPDX-License-Identifier: Apache-2.0
#include "mini/mini_pipeline.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/parameters.h"
#include "models/text_to_image/registry.h"
#include "pipeline/pixels.h"
#include "rtlynx/version.h"

namespace rtlynx {
namespace {

constexpr const char* kPipelineClass = "LynxMiniPipeline";
constexpr int kMaxSide = 512;
constexpr std::int64_t kRgb = 3;

void check_request(const GenerateRequest& request, std::int64_t patch) {
  const auto refuse = [](const std::string& message) { throw UsageError("generate: " + message); };
  if (request.prompts.empty()) refuse("required at least one prompt, got none");
  if (request.prompts.size() != request.seeds.size()) {
    refuse("required one seed per prompt, got " + std::to_string(request.seeds.size()) + " for " +
           std::to_string(request.prompts.size()));
  }
  for (const int side : {request.width, request.height}) {
    if (side < patch || side > kMaxSide || side % patch != 0) {
      refuse("required width and height from " + std::to_string(patch) + " to " +
             std::to_string(kMaxSide) + " pixels in steps of " + std::to_string(patch) + ", got " +
             std::to_string(request.width) + "x" + std::to_string(request.height));
    }
  }
  if (!std::isfinite(request.guidance) || request.guidance < 0) {
    refuse("required finite guidance of at least 0, got " + std::to_string(request.guidance));
  }
}

// [B, 3, H, W], image i from its own generator, so that it does not depend on its batch.
torch::Tensor draw_noise(const GenerateRequest& request) {
  std::vector<torch::Tensor> noise;
  for (const std::uint64_t seed : request.seeds) {
    auto generator = at::detail::createCPUGenerator(seed);
    noise.push_back(torch::randn({kRgb, request.height, request.width}, generator,
                                 torch::TensorOptions().dtype(torch::kFloat32)));
  }
  return torch::stack(noise);
}

std::string step_name(const Pipeline& pipeline, int step, int steps, const char* what) {
  return pipeline.name + ", " + what + " of step " + std::to_string(step + 1) + " of " +
         std::to_string(steps);
}

// A pipeline of diffusers, and which commands take it.
std::string describe_other_pipeline(const std::string& kind) {
  if (!is_text_to_image_pipeline(kind)) return printable(kind);
  return kind +
         ": rtlynx generate and rtlynx info take it, rtlynx calibrate and rtlynx analyze with "
         "--embeddings, and in diffusers rtlynx.sparsify";
}

// A model's folder, or what was given in its place.
void check_folder(const std::filesystem::path& folder) {
  const std::string where = printable(folder.string());
  constexpr const char* kRequired = "a model's folder in diffusers' layout, with model_index.json";
  std::error_code ignored;
  if (std::filesystem::is_regular_file(folder, ignored)) {
    fail(where, kRequired, "a single file");
  }
  if (std::filesystem::exists(model_files(folder).index, ignored)) return;
  if (std::filesystem::exists(folder / "config.json", ignored)) {
    fail(where, kRequired, "a part of a model, with config.json; give the folder above it");
  }
}

void check_index(const nlohmann::json& index, const std::string& where) {
  const std::string kind = json_string(index, "_class_name", where);
  if (kind == kPipelineClass) return;
  fail(where, std::string("_class_name ") + kPipelineClass + ", all that this command takes",
       describe_other_pipeline(kind));
}

// What lies behind the items of the scenes that the model was trained on.
constexpr const char* kSceneBackground = "scene_background";
constexpr const char* kDeadLeaves = "dead leaves";

bool has_leaves(const nlohmann::json& index, const std::string& where) {
  if (!json_has(index, kSceneBackground)) return false;
  const std::string background = json_string(index, kSceneBackground, where);
  require(background == kDeadLeaves, where,
          std::string(kSceneBackground) + " \"" + kDeadLeaves + "\" or none",
          printable(background));
  return true;
}

}  // namespace

FluxInputs make_flux_inputs(const torch::Tensor& tokens, const torch::Tensor& sigma,
                            const TextEmbedding& text, std::int64_t rows, std::int64_t columns) {
  const auto position_options = tokens.options().dtype(torch::kFloat32);
  const torch::Tensor img_ids = image_position_ids(rows, columns).to(position_options.device());
  return {.hidden_states = tokens,
          .encoder_hidden_states = text.tokens,
          .pooled_projections = text.pooled,
          .timestep = sigma,
          .guidance = {},
          .img_ids = img_ids,
          .txt_ids = torch::zeros({text.tokens.size(1), img_ids.size(1)}, position_options)};
}

std::vector<GenerateRequest> split_request(const GenerateRequest& request, int batch) {
  require(batch >= 1, "generate", "a batch of at least 1", std::to_string(batch));
  const std::size_t count = request.prompts.size(), width = static_cast<std::size_t>(batch);
  std::vector<GenerateRequest> parts;
  for (std::size_t first = 0; first < count; first += width) {
    const std::size_t last = std::min(count, first + width);
    GenerateRequest& part = parts.emplace_back(request);
    part.prompts.assign(request.prompts.begin() + first, request.prompts.begin() + last);
    part.seeds.assign(request.seeds.begin() + first, request.seeds.begin() + last);
  }
  return parts;
}

torch::Tensor Pipeline::generate_pixels(const GenerateRequest& request, const StepCallback& on_step,
                                        const VelocityCallback& on_velocity) {
  check_request(request, patch);
  const torch::InferenceMode inference;
  const auto batch = static_cast<std::int64_t>(request.prompts.size());
  const std::int64_t rows = request.height / patch, columns = request.width / patch;
  // A model that embeds the guidance was distilled from both branches into one.
  const bool embeds_guidance = transformer->config().guidance_embeds;
  const bool guided = !embeds_guidance && request.guidance != 1.0;

  torch::Tensor ids = text_encoder->encode(request.prompts);
  if (guided) ids = torch::cat({torch::zeros_like(ids), ids});  // the empty prompt first
  const TextEmbedding text = text_encoder(ids.to(options().device()));
  require_finite(text.tokens, name + ", embedding of the prompts");

  const Schedule schedule = make_schedule(scheduler, request.steps, rows * columns);
  // The sample stays fp32 between steps; only the model works in the weights' type.
  torch::Tensor sample =
      tokens_from_pixels(draw_noise(request), patch).to(options().dtype(torch::kFloat32));
  if (on_step) on_step(0, schedule.steps());
  for (int step = 0; step < schedule.steps(); ++step) {
    torch::Tensor input = sample.to(options());
    if (guided) input = torch::cat({input, input});
    const auto level = [&](double value) {
      return torch::full({input.size(0)}, value, sample.options());
    };
    FluxInputs inputs = make_flux_inputs(
        input, level(schedule.sigmas[static_cast<std::size_t>(step)]), text, rows, columns);
    if (embeds_guidance) inputs.guidance = level(request.guidance);
    torch::Tensor velocity = transformer(inputs).to(torch::kFloat32);
    require_finite(velocity, step_name(*this, step, schedule.steps(), "velocity"));
    if (on_velocity) on_velocity(step, inputs, velocity);
    if (guided) {
      const auto halves = velocity.split(batch);
      velocity = halves[0] + request.guidance * (halves[1] - halves[0]);
    }
    sample = euler_step(schedule, step, sample, velocity);
    require_finite(sample, step_name(*this, step, schedule.steps(), "latents"));
    if (on_step) on_step(step + 1, schedule.steps());
  }
  return pixels_from_tokens(sample.to(torch::kCPU), patch, request.height, request.width);
}

int Pipeline::pictures_at_once(int batch) const { return options().device().is_cpu() ? 1 : batch; }

std::vector<Image> Pipeline::generate(const GenerateRequest& request, const StepCallback& on_step) {
  std::vector<Image> images;
  generate_in_batches(
      request, std::max(1, static_cast<int>(request.prompts.size())),
      [&](std::size_t, std::vector<Image> drawn) {
        std::move(drawn.begin(), drawn.end(), std::back_inserter(images));
      },
      on_step);
  return images;
}

void Pipeline::generate_in_batches(
    const GenerateRequest& request, int batch,
    const std::function<void(std::size_t first, std::vector<Image>)>& on_images,
    const StepCallback& on_step) {
  check_request(request, patch);
  text_encoder->encode(request.prompts);  // refuses an unknown word before anything is drawn
  const std::vector<GenerateRequest> parts = split_request(request, pictures_at_once(batch));
  const int all_steps = static_cast<int>(parts.size()) * request.steps;
  std::size_t first = 0;
  int before = 0;
  for (const GenerateRequest& part : parts) {
    on_images(first, images_from_pixels(generate_pixels(part, [&](int finished, int) {
                if (on_step) on_step(before + finished, all_steps);
              })));
    first += part.prompts.size();
    before += request.steps;
  }
}

std::string Pipeline::device_name() const {
  return c10::DeviceTypeName(options().device().type(), /*lower_case=*/true);
}

std::string Pipeline::dtype_name() const {
  return options().dtype() == torch::kBFloat16 ? "bf16" : "fp32";
}

std::int64_t Pipeline::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : transformer->parameters()) count += parameter.numel();
  for (const auto& parameter : text_encoder->parameters()) count += parameter.numel();
  return count;
}

ModelFiles model_files(const std::filesystem::path& folder) {
  return {.index = folder / "model_index.json",
          .parts = {folder / "transformer", folder / "text_encoder", folder / "scheduler"}};
}

Pipeline load_pipeline(const std::filesystem::path& folder, const torch::TensorOptions& options) {
  check_folder(folder);
  const std::filesystem::path index_path = model_files(folder).index;
  const nlohmann::json index = read_json_file(index_path);
  const std::string where = index_path.string();
  check_index(index, where);

  Pipeline pipeline;
  pipeline.name = path_text(std::filesystem::weakly_canonical(folder).filename());
  pipeline.patch = json_int(index, "pixel_patch_size", where, {.min = 1, .max = 64});
  pipeline.trained_size =
      static_cast<int>(json_int(index, "image_size", where, {.min = 4, .max = kMaxSide}));
  pipeline.leaves = has_leaves(index, where);
  const auto scheduler_path = folder / "scheduler" / "scheduler_config.json";
  pipeline.scheduler =
      scheduler_config_from_json(read_json_file(scheduler_path), scheduler_path.string());
  pipeline.text_encoder = load_text_encoder(folder / "text_encoder", options);
  pipeline.transformer = load_flux(folder / "transformer", options);

  const FluxConfig& config = pipeline.transformer->config();
  const std::int64_t token = kRgb * pipeline.patch * pipeline.patch;
  require(config.in_channels == token && config.out_channels == token && config.patch_size == 1,
          where, "a transformer over " + std::to_string(token) + "-channel RGB patches",
          std::to_string(config.in_channels) + " channels");
  const std::int64_t text = pipeline.text_encoder->channels();
  require(config.joint_attention_dim == text && config.pooled_projection_dim == text, where,
          "a transformer that reads " + std::to_string(text) + " text channels",
          std::to_string(config.joint_attention_dim) + " and " +
              std::to_string(config.pooled_projection_dim));
  return pipeline;
}

void save_pipeline(const Pipeline& pipeline, const std::filesystem::path& folder,
                   std::size_t max_shard_bytes) {
  FileSet files = stage_pipeline(pipeline, folder, max_shard_bytes);
  files.commit(model_files(folder).index);
}

FileSet stage_pipeline(const Pipeline& pipeline, const std::filesystem::path& folder,
                       std::size_t max_shard_bytes) {
  const ModelFiles names = model_files(folder);
  if (std::filesystem::exists(names.index)) {
    check_index(read_json_file(names.index), "write " + names.index.string());
  }
  for (const auto& part : names.parts) std::filesystem::create_directories(part);
  nlohmann::ordered_json index = {
      {"_class_name", kPipelineClass},
      {"_rtlynx_version", version()},
      {"image_size", pipeline.trained_size},
      {"pixel_patch_size", pipeline.patch},
      {"scheduler", {"diffusers", "FlowMatchEulerDiscreteScheduler"}},
      {"text_encoder", {"rtlynx", "TextEncoder"}},
      {"transformer", {"diffusers", "FluxTransformer2DModel"}},
  };
  if (pipeline.leaves) index[kSceneBackground] = kDeadLeaves;
  FileSet files;
  const auto add_json = [&](const std::filesystem::path& path, const auto& json) {
    files.add(path, json.dump(2) + "\n");
  };
  stage_parameters(*pipeline.transformer, folder / "transformer", "diffusion_pytorch_model",
                   torch::kBFloat16, max_shard_bytes, files);
  stage_text_encoder(pipeline.text_encoder, folder / "text_encoder", files);
  add_json(folder / "transformer/config.json", to_json(pipeline.transformer->config()));
  add_json(folder / "scheduler/scheduler_config.json", to_json(pipeline.scheduler));
  add_json(names.index, index);  // last: a folder that has one is complete
  return files;
}

}  // namespace rtlynx
