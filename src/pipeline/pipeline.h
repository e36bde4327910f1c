// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/image.h"
#include "models/flux/transformer.h"
#include "pipeline/scheduler.h"
#include "pipeline/text_encoder.h"

namespace rtlynx {

/// What to draw. prompts[i] is drawn from seeds[i].
struct GenerateRequest {
  std::vector<std::string> prompts;
  std::vector<std::uint64_t> seeds;
  int steps = 28;
  double guidance = 4.0;  ///< classifier-free guidance; 1 switches it off and halves the work
  int width = 64;         ///< pixels
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
  SchedulerConfig scheduler;
  TextEncoder text_encoder{nullptr};
  FluxTransformer transformer{nullptr};

  torch::TensorOptions options() const { return transformer->parameters().front().options(); }

  /// One image per prompt. Same request, device, batch and threads: same bits. The noise is drawn
  /// on the CPU in fp32, one generator per image, so that devices start alike. Throws UsageError
  /// for an empty request, impossible sizes, unknown words and fewer than one step.
  std::vector<Image> generate(const GenerateRequest& request, const StepCallback& on_step = {});

  /// The same for any number of prompts, `batch` at a time: `on_images` gets the index of the first
  /// image and the images of each batch as soon as they are drawn. Everything is checked before
  /// the first step; `on_step` counts the steps of all batches.
  void generate_in_batches(
      const GenerateRequest& request, int batch,
      const std::function<void(std::size_t first, std::vector<Image>)>& on_images,
      const StepCallback& on_step = {});

  std::string device_name() const;  ///< "cpu" or "cuda"
  std::string dtype_name() const;   ///< "fp32" or "bf16"

  /// Of transformer and text encoder.
  std::int64_t parameter_count() const;

  /// The denoised pictures before rounding: fp32 [B, 3, H, W] on the CPU, about [-1, 1].
  torch::Tensor generate_pixels(const GenerateRequest& request, const StepCallback& on_step = {},
                                const VelocityCallback& on_velocity = {});
};

/// The request in parts of at most `batch` prompts, in order.
std::vector<GenerateRequest> split_request(const GenerateRequest& request, int batch);

/// Reads model_index.json, transformer/, text_encoder/ and scheduler/ in `folder`; the weights are
/// converted to the dtype and device of `options`.
Pipeline load_pipeline(const std::filesystem::path& folder, const torch::TensorOptions& options);

/// Writes what load_pipeline reads; weights as bf16 in shards of at most `max_shard_bytes`.
void save_pipeline(const Pipeline& pipeline, const std::filesystem::path& folder,
                   std::size_t max_shard_bytes);

/// Inputs of the transformer for a batch of B pictures of rows x columns tokens: positions, and the
/// text. `tokens` [B, rows * columns, channels], `sigma` [B].
FluxInputs make_flux_inputs(const torch::Tensor& tokens, const torch::Tensor& sigma,
                            const TextEmbedding& text, std::int64_t rows, std::int64_t columns);

}  // namespace rtlynx
