// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/image.h"
#include "io/file.h"
#include "mini/word_encoder.h"
#include "models/flux/transformer.h"
#include "pipeline/scheduler.h"

namespace rtlynx {

/// What to draw. prompts[i] is drawn from seeds[i].
struct GenerateRequest {
  std::vector<std::string> prompts;
  std::vector<std::uint64_t> seeds;
  int steps = 28;
  /// Classifier-free guidance; 1 switches it off and halves the work. A model with guidance_embeds
  /// takes it as an input instead and has no second branch, as in diffusers.
  double guidance = 4.0;
  int width = 64;  ///< pixels
  int height = 64;
};

/// Called before the first step with 0 and after each with the number of finished steps.
using StepCallback = std::function<void(int finished, int steps)>;

/// Called at every step with what the transformer read and its velocity [B, I, C] before guidance;
/// with guidance the first half of the batch is the empty prompt's.
using VelocityCallback =
    std::function<void(int step, const FluxInputs& inputs, const torch::Tensor& velocity)>;

/// A text-to-image model with all it needs, from a folder in diffusers' layout.
struct Pipeline {
  std::string name;        ///< the folder's name
  std::int64_t patch = 4;  ///< pixels along a token's side; tokens hold raw RGB
  int trained_size = 64;   ///< pixels; other sizes extrapolate
  bool leaves = false;     ///< the scenes it was trained on have dead leaves behind the items
  SchedulerConfig scheduler;
  TextEncoder text_encoder{nullptr};
  FluxTransformer transformer{nullptr};

  torch::TensorOptions options() const { return transformer->parameters().front().options(); }

  /// One image per prompt. Same request, device and threads, and on a GPU same batch: same bits. On
  /// the CPU images are drawn one after the other, so that none depends on its batch: a choice of
  /// channels turns the rounding of another batch into another picture. The noise is drawn on the
  /// CPU in fp32, one generator per image, so that devices start alike. Throws UsageError for an
  /// empty request, impossible sizes, unknown words and fewer than one step; Error, naming the
  /// step, for what is not finite.
  std::vector<Image> generate(const GenerateRequest& request, const StepCallback& on_step = {});

  /// The same for any number of prompts, pictures_at_once(batch) at a time: `on_images` gets the
  /// index of the first image and the images of each batch as soon as they are drawn. Everything is
  /// checked before the first step; `on_step` counts the steps of all batches.
  void generate_in_batches(
      const GenerateRequest& request, int batch,
      const std::function<void(std::size_t first, std::vector<Image>)>& on_images,
      const StepCallback& on_step = {});

  /// `batch` on a GPU, 1 on the CPU.
  int pictures_at_once(int batch) const;

  std::string device_name() const;  ///< "cpu" or "cuda"
  std::string dtype_name() const;   ///< "fp32" or "bf16"

  /// Of transformer and text encoder.
  std::int64_t parameter_count() const;

  /// The denoised pictures before rounding, all in one batch, on which their last bits depend: fp32
  /// [B, 3, H, W] on the CPU, about [-1, 1].
  torch::Tensor generate_pixels(const GenerateRequest& request, const StepCallback& on_step = {},
                                const VelocityCallback& on_velocity = {});
};

/// The request in parts of at most `batch` prompts, in order.
std::vector<GenerateRequest> split_request(const GenerateRequest& request, int batch);

/// Where a model's parts lie in its folder.
struct ModelFiles {
  std::filesystem::path index;               ///< model_index.json
  std::vector<std::filesystem::path> parts;  ///< transformer/, text_encoder/, scheduler/
};
ModelFiles model_files(const std::filesystem::path& folder);

/// Reads model_index.json, transformer/, text_encoder/ and scheduler/ in `folder`; the weights are
/// converted to the dtype and device of `options`.
Pipeline load_pipeline(const std::filesystem::path& folder, const torch::TensorOptions& options);

/// Writes what load_pipeline reads; weights as bf16 in shards of at most `max_shard_bytes`. All is
/// on the disk before anything in the folder changes. Throws Error for weights that are not finite,
/// for a folder with a model of another kind and for one whose checkpoint has the other form, in
/// shards or not.
void save_pipeline(const Pipeline& pipeline, const std::filesystem::path& folder,
                   std::size_t max_shard_bytes);

/// The same without the last step: what is thrown away again shows that it could be saved.
FileSet stage_pipeline(const Pipeline& pipeline, const std::filesystem::path& folder,
                       std::size_t max_shard_bytes);

/// Inputs of the transformer for a batch of B pictures of rows x columns tokens: positions, and the
/// text. `tokens` [B, rows * columns, channels], `sigma` [B].
FluxInputs make_flux_inputs(const torch::Tensor& tokens, const torch::Tensor& sigma,
                            const TextEmbedding& text, std::int64_t rows, std::int64_t columns);

}  // namespace rtlynx
