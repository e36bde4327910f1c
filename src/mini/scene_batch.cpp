// SPDX-License-Identifier: Apache-2.0
#include "mini/scene_batch.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "base/rng.h"
#include "mini/scenes/scene.h"
#include "mini/scenes/training_scene.h"
#include "pipeline/pixels.h"

namespace rtlynx {

SceneBatch draw_scene_batch(const SceneBatchOptions& options, const Vocabulary& vocabulary,
                            std::int64_t step) {
  const std::int64_t batch = options.batch;
  const TrainingScenes scenes{
      .seed = options.seed, .caption_dropout = options.caption_dropout, .leaves = options.leaves};
  SceneBatch out{.bytes = torch::empty({batch, kSceneSide, kSceneSide, 3}, torch::kUInt8),
                 .ids = torch::zeros({batch, kMaxTokens}, torch::kInt64),
                 .noise = {},
                 .time = {}};
  auto* bytes = out.bytes.mutable_data_ptr<std::uint8_t>();
  auto* ids = out.ids.mutable_data_ptr<std::int64_t>();
  constexpr std::size_t kBytes = std::size_t{kSceneSide} * kSceneSide * 3;

  at::parallel_for(0, batch, /*grain_size=*/8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::vector<int> words =
          draw_training_scene(scenes, static_cast<std::uint64_t>(step * batch + i), vocabulary,
                              {bytes + static_cast<std::size_t>(i) * kBytes, kBytes});
      std::copy(words.begin(), words.end(), ids + i * kMaxTokens);
    }
  });

  auto generator =
      at::detail::createCPUGenerator(mixed_seed(~options.seed, static_cast<std::uint64_t>(step)));
  out.noise = torch::randn({batch, 3, kSceneSide, kSceneSide}, generator, torch::kFloat32);
  out.time =
      torch::sigmoid(options.time_spread * torch::randn({batch}, generator, torch::kFloat32));
  return out;
}

FlowMatchingSample flow_matching_sample(Pipeline& pipeline, const SceneBatch& batch,
                                        torch::Device device, double guidance) {
  const auto there = [&](const torch::Tensor& tensor) {
    return tensor.to(device, /*non_blocking=*/true);
  };
  const torch::Tensor clean =
      tokens_from_pixels(pixels_from_bytes(there(batch.bytes)), pipeline.patch);
  const torch::Tensor noise = tokens_from_pixels(there(batch.noise), pipeline.patch);
  const torch::Tensor time = there(batch.time);
  const torch::Tensor mix = time.view({-1, 1, 1});
  const torch::Tensor noisy = (1 - mix) * clean + mix * noise;
  const TextEmbedding text = pipeline.text_encoder(there(batch.ids));
  const std::int64_t side = kSceneSide / pipeline.patch;
  FluxInputs inputs = make_flux_inputs(noisy, time, text, side, side);
  if (pipeline.transformer->config().guidance_embeds) {
    inputs.guidance = torch::full_like(time, guidance);
  }
  return {.inputs = std::move(inputs), .velocity = noise - clean};
}

}  // namespace rtlynx
