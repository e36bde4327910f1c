// SPDX-License-Identifier: Apache-2.0
#include "mini/train.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <iomanip>
#include <limits>
#include <numbers>
#include <sstream>

#include "base/error.h"
#include "layers/finite.h"
#include "mini/checkpoint.h"
#include "mini/scene_batch.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kLossInterval = 20;  // steps between two readings of the loss

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

torch::Tensor flow_matching_loss(Pipeline& pipeline, const SceneBatch& batch,
                                 torch::Device device) {
  const AutocastScope autocast(device);
  const FlowMatchingSample sample = flow_matching_sample(pipeline, batch, device);
  const torch::Tensor velocity = pipeline.transformer(sample.inputs);
  return torch::mse_loss(velocity.to(torch::kFloat32), sample.velocity);
}

// Everything that decides which weights come out; the device and the file's own name do not.
SafetensorsMetadata describe(const TrainOptions& options) {
  const auto text = [](auto value) {
    std::ostringstream stream;
    stream << std::setprecision(std::numeric_limits<double>::max_digits10) << value;
    return stream.str();
  };
  return {{"format", "rtlynx training checkpoint 1"},
          {"heads", text(options.shape.heads)},
          {"double_blocks", text(options.shape.double_blocks)},
          {"single_blocks", text(options.shape.single_blocks)},
          {"seed", text(options.seed)},
          {"steps", text(options.steps)},
          {"batch", text(options.batch)},
          {"learning_rate", text(options.learning_rate)},
          {"warm_up", text(options.warm_up)},
          {"decay_share", text(options.decay_share)},
          {"caption_dropout", text(options.caption_dropout)},
          {"time_spread", text(options.time_spread)},
          {"beta1", text(options.adamw.beta1)},
          {"beta2", text(options.adamw.beta2)},
          {"weight_decay", text(options.adamw.weight_decay)},
          {"epsilon", text(options.adamw.epsilon)},
          {"max_gradient_norm", text(options.adamw.max_gradient_norm)},
          {"ema_decay", text(options.adamw.ema_decay)}};
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

void check_learning_rate(double rate) {
  if (std::isfinite(rate) && rate > 0) return;
  throw UsageError("learning rate: required a finite number above 0, got " + std::to_string(rate));
}

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
  check_learning_rate(options.learning_rate);
  Pipeline pipeline = make_lynx_mini(options.shape, options.seed);
  pipeline.transformer->to(options.device);
  pipeline.text_encoder->to(options.device);
  // The cuDNN attention backward of torch 2.11 made illegal accesses at sequence lengths like ours.
  at::globalContext().setSDPUseCuDNN(false);

  AdamW optimizer(named_weights(pipeline), options.adamw);
  if (!options.checkpoint.empty()) {
    load_checkpoint(options.checkpoint, describe(options), optimizer);
  }
  if (options.before) options.before(pipeline);

  const Vocabulary& vocabulary = pipeline.text_encoder->vocabulary();
  const SceneBatchOptions batches{.seed = options.seed,
                                  .batch = options.batch,
                                  .caption_dropout = options.caption_dropout,
                                  .time_spread = options.time_spread};
  const auto draw = [&](std::int64_t step) {
    return std::async(std::launch::async,
                      [&, step] { return draw_scene_batch(batches, vocabulary, step); });
  };
  TrainProgress progress{.step = optimizer.finished_steps(), .steps = options.steps};
  torch::Tensor loss_sum = torch::zeros({}, torch::TensorOptions().device(options.device));
  std::int64_t summed = 0;
  const auto read_loss = [&] {
    if (summed == 0) return;
    progress.loss = loss_sum.item<double>() / static_cast<double>(summed);
    require_finite(*progress.loss, "train, loss up to step " + std::to_string(progress.step));
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
    const bool ends = !go_on || progress.step == options.steps;
    if (due || ends) read_loss();
    if (!options.checkpoint.empty() && (due || ends)) {
      save_checkpoint(options.checkpoint, describe(options), optimizer);
    }
  }
  optimizer.load_average();
  return {.pipeline = pipeline, .finished_steps = progress.step, .loss = progress.loss};
}

}  // namespace rtlynx
