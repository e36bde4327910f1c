// SPDX-License-Identifier: Apache-2.0
#include "study/train.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <numbers>

#include "data/caption.h"
#include "pipeline/pixels.h"
#include "study/checkpoint.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kLossInterval = 20;  // steps between two readings of the loss

/// Scenes of one step, on the CPU.
struct SceneBatch {
  torch::Tensor bytes;  // [B, side, side, 3] uint8
  torch::Tensor ids;    // [B, L] int64, zeros where the caption is dropped
  torch::Tensor noise;  // [B, 3, side, side] fp32
  torch::Tensor time;   // [B] fp32 in (0, 1)
};

// A well-mixed seed for item `index` of a run (the finaliser of splitmix64).
std::uint64_t mixed_seed(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0x9E3779B97F4A7C15ULL + index + 1;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

SceneBatch draw_batch(const TrainOptions& options, const Vocabulary& vocabulary,
                      std::int64_t step) {
  const std::int64_t batch = options.batch;
  SceneBatch out{.bytes = torch::empty({batch, kSceneSide, kSceneSide, 3}, torch::kUInt8),
                 .ids = torch::zeros({batch, kMaxTokens}, torch::kInt64),
                 .noise = {},
                 .time = {}};
  auto* bytes = out.bytes.mutable_data_ptr<std::uint8_t>();
  auto* ids = out.ids.mutable_data_ptr<std::int64_t>();
  constexpr std::size_t kBytes = std::size_t{kSceneSide} * kSceneSide * 3;

  at::parallel_for(0, batch, /*grain_size=*/8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      Rng rng(mixed_seed(options.seed, static_cast<std::uint64_t>(step * batch + i)));
      const Scene scene = sample_scene(rng, Split::train);
      render(scene, kSceneSide, {bytes + static_cast<std::size_t>(i) * kBytes, kBytes});
      if (rng.chance(static_cast<float>(options.caption_dropout))) continue;
      const auto words = vocabulary.encode(caption(scene, rng, CaptionDropout{}));
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

/// bf16 arithmetic in matrix products while it lives, on a GPU only.
class AutocastScope {
 public:
  explicit AutocastScope(torch::Device device) : active_(device.is_cuda()) {
    if (!active_) return;
    at::autocast::set_autocast_dtype(torch::kCUDA, torch::kBFloat16);
    at::autocast::set_autocast_enabled(torch::kCUDA, true);
  }
  ~AutocastScope() {
    if (!active_) return;
    at::autocast::set_autocast_enabled(torch::kCUDA, false);
    at::autocast::clear_cache();
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
};

// Flow matching (arXiv 2210.02747): x_t = (1 - t) x + t noise, velocity = noise - x.
torch::Tensor flow_matching_loss(Pipeline& pipeline, const SceneBatch& batch,
                                 torch::Device device) {
  const auto there = [&](const torch::Tensor& tensor) {
    return tensor.to(device, /*non_blocking=*/true);
  };
  const torch::Tensor clean =
      tokens_from_pixels(pixels_from_bytes(there(batch.bytes)), pipeline.patch);
  const torch::Tensor noise = tokens_from_pixels(there(batch.noise), pipeline.patch);
  const torch::Tensor time = there(batch.time);
  const torch::Tensor mix = time.view({-1, 1, 1});
  const torch::Tensor noisy = (1 - mix) * clean + mix * noise;

  const AutocastScope autocast(device);
  const TextEmbedding text = pipeline.text_encoder(there(batch.ids));
  const std::int64_t side = kSceneSide / pipeline.patch;
  const torch::Tensor velocity =
      pipeline.transformer(make_flux_inputs(noisy, time, text, side, side));
  return torch::mse_loss(velocity.to(torch::kFloat32), noise - clean);
}

std::vector<std::pair<std::string, torch::Tensor>> named_weights(const Pipeline& pipeline) {
  std::vector<std::pair<std::string, torch::Tensor>> all;
  for (const auto& item : pipeline.transformer->named_parameters()) {
    all.emplace_back("transformer." + item.key(), item.value());
  }
  for (const auto& item : pipeline.text_encoder->named_parameters()) {
    all.emplace_back("text_encoder." + item.key(), item.value());
  }
  return all;
}

}  // namespace

double learning_rate_at(const TrainOptions& options, std::int64_t step) {
  const auto position = static_cast<double>(step);
  const double warm =
      options.warm_up > 0 ? (position + 1) / static_cast<double>(options.warm_up) : 1;
  const double decay_start = static_cast<double>(options.steps) * (1 - options.decay_share);
  double fall = 1;
  if (position > decay_start) {
    const double share =
        (position - decay_start) / (static_cast<double>(options.steps) - decay_start);
    fall = 0.5 * (1 + std::cos(std::numbers::pi * std::min(share, 1.0)));
  }
  return options.learning_rate * std::min(warm, 1.0) * fall;
}

TrainResult train_lynx_mini(const TrainOptions& options, const TrainCallback& on_step) {
  Pipeline pipeline = make_lynx_mini(options.shape, options.seed);
  pipeline.transformer->to(options.device);
  pipeline.text_encoder->to(options.device);
  // The cuDNN attention backward of torch 2.11 made illegal accesses at sequence lengths like ours.
  at::globalContext().setSDPUseCuDNN(false);

  AdamW optimizer(named_weights(pipeline), options.adamw);
  if (!options.checkpoint.empty()) load_checkpoint(options, optimizer);

  const Vocabulary& vocabulary = pipeline.text_encoder->vocabulary();
  const auto draw = [&](std::int64_t step) {
    return std::async(std::launch::async,
                      [&, step] { return draw_batch(options, vocabulary, step); });
  };
  TrainProgress progress{.step = optimizer.finished_steps(), .steps = options.steps};
  torch::Tensor loss_sum = torch::zeros({}, torch::TensorOptions().device(options.device));
  std::int64_t summed = 0;
  const auto read_loss = [&] {
    if (summed == 0) return;
    progress.loss = loss_sum.item<double>() / static_cast<double>(summed);
    loss_sum.zero_();
    summed = 0;
  };
  bool go_on = true;
  std::future<SceneBatch> next;
  if (progress.step < options.steps) next = draw(progress.step);
  while (progress.step < options.steps && go_on) {
    const SceneBatch batch = next.get();
    // Drawn while the device works.
    if (progress.step + 1 < options.steps) next = draw(progress.step + 1);
    const torch::Tensor loss = flow_matching_loss(pipeline, batch, options.device);
    loss.backward();
    progress.learning_rate = learning_rate_at(options, progress.step);
    optimizer.step(progress.learning_rate);
    ++progress.step;

    loss_sum += loss.detach();
    ++summed;
    if (progress.step % kLossInterval == 0) read_loss();
    if (on_step) go_on = on_step(progress);
    const bool due = progress.step % options.checkpoint_interval == 0;
    if (!options.checkpoint.empty() && (due || !go_on || progress.step == options.steps)) {
      save_checkpoint(options, optimizer);
    }
  }
  read_loss();
  optimizer.load_average();
  return {.pipeline = pipeline, .finished_steps = progress.step, .loss = progress.loss};
}

}  // namespace rtlynx
