// SPDX-License-Identifier: Apache-2.0
#include "study/train_low_rank.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"
#include "layers/differentiable24.h"
#include "layers/finite.h"
#include "mini/checkpoint.h"
#include "mini/scene_batch.h"
#include "mini/train.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "study/trajectory_batches.h"

namespace rtlynx {
namespace {

constexpr double kEmptyCaptions = 0.5;  // guidance runs as many branches without as with caption
// The average of a short run must not remember its start.
constexpr AdamWOptions kAdamW{.weight_decay = 0.0, .ema_decay = 0.99};

SafetensorsMetadata describe(const ModelCompensation& start, const TrainLowRankOptions& options) {
  const auto text = [](auto value) {
    std::ostringstream stream;
    stream << std::setprecision(std::numeric_limits<double>::max_digits10) << value;
    return stream.str();
  };
  SafetensorsMetadata description = {
      {"format", "rtlynx low-rank training 1"},
      {"objective", options.objective == LowRankObjective::velocity ? "velocity" : "layerwise"},
      {"base_revision", start.base_revision},
      {"method", start.method},
      {"transform", start.transform},
      {"rank", text(start.rank)},
      {"seed", text(options.seed)},
      {"steps", text(options.steps)},
      {"batch", text(options.batch)},
      {"rows", text(options.rows)},
      {"learning_rate", text(options.learning_rate)},
      {"warm_up", text(options.warm_up)}};
  if (options.inputs == LowRankInputs::trajectories) {
    description.insert({{"inputs", "trajectories"},
                        {"run_prompts", text(options.run.prompts)},
                        {"run_seed", text(options.run.seed)},
                        {"run_steps", text(options.run.steps)},
                        {"run_guidance", text(options.run.guidance)},
                        {"run_batch", text(options.run.batch)}});
  }
  return description;
}

/// Errors of one output relative to the dense one's, squared.
torch::Tensor relative_square(const torch::Tensor& value, const torch::Tensor& dense) {
  return (value - dense).square().sum() / dense.square().sum().clamp_min(1e-12);
}

/// The layers in training, and the two ways to measure them on a batch.
class Student {
 public:
  Student(Pipeline& pipeline, const ModelCompensation& start, std::int64_t rows)
      : pipeline_(pipeline), rows_(rows) {
    for (const auto& [name, linear] : named_linears(*pipeline.transformer)) {
      if (start.layers.contains(name)) layers_.push_back({name, linear});
    }
    for (torch::Tensor& weight : pipeline.transformer->parameters()) weight.requires_grad_(false);
    for (torch::Tensor& weight : pipeline.text_encoder->parameters()) weight.requires_grad_(false);
    for (const auto& [name, tensor] : parameters()) tensor.requires_grad_();
  }
  ~Student() {
    for (const auto& [name, tensor] : parameters()) tensor.requires_grad_(false);
  }
  Student(const Student&) = delete;
  Student& operator=(const Student&) = delete;

  std::vector<std::pair<std::string, torch::Tensor>> parameters() const {
    std::vector<std::pair<std::string, torch::Tensor>> all;
    for (const auto& [name, linear] : layers_) {
      all.emplace_back(name + ".down", linear->compensation()->down);
      all.emplace_back(name + ".up", linear->compensation()->up);
    }
    return all;
  }

  /// ||v - v_dense||^2 / ||v_dense||^2.
  torch::Tensor velocity_loss(const VelocityBatch& batch) {
    torch::Tensor dense = batch.velocity;
    if (!dense.defined()) {
      const torch::NoGradGuard no_grad;
      set_mode(LinearMode::dense);
      dense = pipeline_.transformer(batch.inputs);
    }
    set_mode(LinearMode::compensated);
    return relative_square(pipeline_.transformer(batch.inputs), dense);
  }

  /// The mean over the layers of ||y - y_dense||^2 / ||y_dense||^2, on the dense model's inputs.
  torch::Tensor layerwise_loss(const FluxInputs& inputs, std::uint64_t seed) {
    auto generator = at::detail::createCPUGenerator(seed);
    torch::Tensor sum;
    for (auto& [name, linear] : layers_) {
      linear->set_observer([&, &layer = linear](const torch::Tensor& x) {
        const torch::AutoGradMode with_gradient(true);  // the model itself runs without
        const torch::Tensor loss = layer_loss(layer, some_rows(x, generator));
        sum = sum.defined() ? sum + loss : loss;
      });
    }
    set_mode(LinearMode::dense);
    {
      const torch::NoGradGuard no_grad;
      pipeline_.transformer(inputs);
    }
    for (auto& [name, linear] : layers_) linear->set_observer({});
    return sum / static_cast<double>(layers_.size());
  }

  void set_mode(LinearMode mode) {
    for (auto& [name, linear] : layers_) linear->set_mode(mode);
  }

 private:
  torch::Tensor some_rows(const torch::Tensor& x, const at::Generator& generator) const {
    const torch::Tensor all = x.detach().reshape({-1, x.size(-1)});
    const torch::Tensor chosen =
        torch::randint(all.size(0), {std::min(rows_, all.size(0))}, generator,
                       torch::TensorOptions().dtype(torch::kInt64));
    return all.index_select(0, chosen.to(all.device()));
  }

  static torch::Tensor layer_loss(const SparseLinear& layer, const torch::Tensor& rows) {
    const Compensation24& with = *layer->compensation();
    torch::Tensor dense, sparse, z;
    {
      const torch::NoGradGuard no_grad;
      dense = torch::linear(rows, layer->weight);
      z = with.transform.apply(rows);
      sparse = torch::linear(select24(z, with.norm),
                             with.weight.defined() ? with.weight : layer->weight);
    }
    return relative_square(sparse + torch::linear(torch::linear(z, with.down), with.up), dense);
  }

  Pipeline& pipeline_;
  std::int64_t rows_;
  std::vector<NamedLinear> layers_;
};

/// The inputs of every step, and the dense velocity where it is known already.
class BatchSource {
 public:
  BatchSource(const TrainLowRankOptions& options, Pipeline& pipeline)
      : pipeline_(pipeline),
        guidance_(options.run.guidance),
        scenes_{.seed = options.seed,
                .batch = options.batch,
                .caption_dropout = kEmptyCaptions,
                .leaves = pipeline.leaves} {
    if (options.inputs == LowRankInputs::trajectories) {
      trajectories_.emplace(options.run, options.batch);
    }
  }

  VelocityBatch at(std::int64_t step, Student& student) {
    if (trajectories_) {
      student.set_mode(LinearMode::dense);
      return trajectories_->at(pipeline_, step);
    }
    const SceneBatch batch = draw_scene_batch(scenes_, pipeline_.text_encoder->vocabulary(), step);
    return {
        .inputs =
            flow_matching_sample(pipeline_, batch, pipeline_.options().device(), guidance_).inputs,
        .velocity = {}};
  }

 private:
  Pipeline& pipeline_;
  double guidance_;
  SceneBatchOptions scenes_;
  std::optional<TrajectoryBatches> trajectories_;
};

void check_start(const Pipeline& pipeline, const ModelCompensation& start) {
  require(pipeline.options().dtype() == torch::kFloat32, "train_low_rank", "a model in fp32",
          pipeline.dtype_name());
  for (const auto& [name, layer] : start.layers) {
    require(layer.values.down.defined(), "train_low_rank", "a low rank for every layer",
            "none for " + name);
  }
}

// What was trained, as a file holds it.
ModelCompensation trained(const ModelCompensation& start, const Pipeline& pipeline) {
  ModelCompensation result = start;
  for (const auto& [name, linear] : named_linears(*pipeline.transformer)) {
    const auto found = result.layers.find(name);
    if (found == result.layers.end()) continue;
    const Compensation24& values = *linear->compensation();
    found->second.values.down = values.down.detach().to(torch::kCPU, torch::kBFloat16);
    found->second.values.up = values.up.detach().to(torch::kCPU, torch::kBFloat16);
  }
  return result;
}

}  // namespace

ModelCompensation start_low_rank(const Pipeline& pipeline, const std::string& recipe,
                                 std::int64_t rank, std::uint64_t seed) {
  ModelCompensation start{.base_model = pipeline.name,
                          .base_revision = weights_revision(*pipeline.transformer),
                          .method = "start",
                          .transform = "none",
                          .recipe = recipe,
                          .rank = rank,
                          .layers = {}};
  auto generator = at::detail::createCPUGenerator(seed);
  const LayerFilter wanted = recipe_from_string(recipe, pipeline.transformer->groups());
  for (const auto& [name, linear] : named_linears(*pipeline.transformer)) {
    if (!wanted(name)) continue;
    const double spread = 1.0 / std::sqrt(static_cast<double>(linear->in_features()));
    Compensation24 values;
    values.down = spread * torch::randn({rank, linear->in_features()}, generator,
                                        torch::TensorOptions().dtype(torch::kFloat32));
    values.up = torch::zeros({linear->out_features(), rank});
    start.layers[name] = {.input = name, .values = values};
  }
  return start;
}

TrainLowRankResult train_low_rank(Pipeline& pipeline, const ModelCompensation& start,
                                  const TrainLowRankOptions& options,
                                  const TrainLowRankCallback& on_step) {
  check_learning_rate(options.learning_rate);
  check_start(pipeline, start);
  apply_compensation(*pipeline.transformer, start, "train_low_rank");
  Student student(pipeline, start, options.rows);
  AdamW optimizer(student.parameters(), kAdamW);
  const SafetensorsMetadata description = describe(start, options);
  if (!options.checkpoint.empty()) load_checkpoint(options.checkpoint, description, optimizer);

  const TrainOptions course{
      .steps = options.steps, .learning_rate = options.learning_rate, .warm_up = options.warm_up};
  BatchSource source(options, pipeline);
  TrainLowRankResult result;
  TrainLowRankProgress progress{.step = optimizer.finished_steps(), .steps = options.steps};
  bool go_on = true;
  while (progress.step < options.steps && go_on) {
    const VelocityBatch batch = source.at(progress.step, student);
    const torch::Tensor loss =
        options.objective == LowRankObjective::velocity
            ? student.velocity_loss(batch)
            : student.layerwise_loss(batch.inputs, static_cast<std::uint64_t>(progress.step));
    progress.loss = loss.item<double>();
    require_finite(progress.loss, "training, loss of step " + std::to_string(progress.step + 1));
    loss.backward();
    optimizer.step(learning_rate_at(course, progress.step));
    ++progress.step;
    result.loss = progress.loss;
    if (on_step) go_on = on_step(progress);
    const bool due = progress.step % options.checkpoint_interval == 0;
    if (!options.checkpoint.empty() && (due || !go_on || progress.step == options.steps)) {
      save_checkpoint(options.checkpoint, description, optimizer);
    }
  }
  optimizer.load_average();
  student.set_mode(LinearMode::compensated);
  result.finished = progress.step == options.steps;
  result.compensation = trained(start, pipeline);
  return result;
}

}  // namespace rtlynx
