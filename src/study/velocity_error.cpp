// SPDX-License-Identifier: Apache-2.0
#include "study/velocity_error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "layers/finite.h"
#include "pipeline/tasks.h"

namespace rtlynx {
namespace {

// Of each picture of a batch [B, I, C] -> [prompts]; its guidance branches lie `prompts` apart.
torch::Tensor squares_per_prompt(const torch::Tensor& velocity, std::size_t prompts) {
  return velocity.to(torch::kFloat64)
      .square()
      .sum({1, 2})
      .view({-1, static_cast<std::int64_t>(prompts)})
      .sum(0)
      .to(torch::kCPU);
}

/// Which pictures of a batch to take, in each of its guidance branches.
struct PictureRows {
  std::int64_t pictures = 0;  ///< in the batch
  std::int64_t from = 0;
  std::int64_t to = 0;  ///< behind the last
  std::int64_t apart = 1;

  torch::Tensor of(const torch::Tensor& batch) const {
    if (!batch.defined() || (to - from == pictures && apart == 1)) return batch;
    std::vector<torch::Tensor> rows;
    for (const torch::Tensor& branch : batch.split(pictures)) {
      rows.push_back(branch.slice(0, from, to, apart));
    }
    return torch::cat(rows);
  }

  FluxInputs of(FluxInputs inputs) const {
    for (torch::Tensor* batch : {&inputs.hidden_states, &inputs.encoder_hidden_states,
                                 &inputs.pooled_projections, &inputs.timestep, &inputs.guidance}) {
      *batch = of(*batch);
    }
    return inputs;
  }
};

/// Adds a record's sums, [prompts] each.
void add_record(VelocityError& error, const DenseTrajectory::Step& record,
                const torch::Tensor& wrong, const torch::Tensor& whole) {
  for (std::size_t i = 0; i < record.prompts; ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const SquaredError one{.wrong = wrong[index].item<double>(),
                           .whole = whole[index].item<double>()};
    error.by_prompt[record.first + i * record.apart] += one;
    error.by_step[static_cast<std::size_t>(record.step)] += one;
  }
}

VelocityError empty_error(const DenseTrajectory& trajectory) {
  return {.by_prompt = std::vector<SquaredError>(trajectory.prompts),
          .by_step = std::vector<SquaredError>(static_cast<std::size_t>(trajectory.steps))};
}

}  // namespace

SquaredError& SquaredError::operator+=(const SquaredError& other) {
  wrong += other.wrong;
  whole += other.whole;
  return *this;
}

double SquaredError::relative() const {
  if (whole > 0) return std::sqrt(wrong / whole);
  return wrong > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

double VelocityError::relative() const {
  SquaredError sum;
  for (const SquaredError& prompt : by_prompt) sum += prompt;
  return sum.relative();
}

double VelocityError::relative(std::span<const std::size_t> drawn) const {
  SquaredError sum;
  for (const std::size_t index : drawn) sum += by_prompt.at(index);
  return sum.relative();
}

TrajectoryRecorder::TrajectoryRecorder(std::size_t prompts, int steps, int stride)
    : trajectory_{.prompts = prompts, .steps = steps}, stride_(static_cast<std::size_t>(stride)) {
  require(stride >= 1, "TrajectoryRecorder", "a stride of at least 1", std::to_string(stride));
}

std::int64_t TrajectoryRecorder::picture_steps() const {
  std::int64_t count = 0;
  for (std::size_t prompt = 0; prompt < trajectory_.prompts; ++prompt) {
    const std::size_t first = (stride_ - prompt % stride_) % stride_;
    const auto steps = static_cast<std::size_t>(trajectory_.steps);
    if (first < steps) count += static_cast<std::int64_t>((steps - first + stride_ - 1) / stride_);
  }
  return count;
}

void TrajectoryRecorder::add(const DrawnBatch& batch, int step, const FluxInputs& inputs,
                             const torch::Tensor& velocity) {
  const std::size_t end = std::min(batch.first + batch.pictures, trajectory_.prompts);
  // The first prompt of the batch whose index and step add up to a multiple of the stride.
  const std::size_t phase = (batch.first + static_cast<std::size_t>(step)) % stride_;
  const std::size_t from = batch.first + (stride_ - phase) % stride_;
  if (from >= end) return;
  const auto in_batch = [&](std::size_t index) {
    return static_cast<std::int64_t>(index - batch.first);
  };
  const PictureRows rows{.pictures = static_cast<std::int64_t>(batch.pictures),
                         .from = in_batch(from),
                         .to = in_batch(end),
                         .apart = static_cast<std::int64_t>(stride_)};
  trajectory_.records.push_back({.step = step,
                                 .first = from,
                                 .prompts = (end - from + stride_ - 1) / stride_,
                                 .apart = stride_,
                                 .inputs = rows.of(inputs),
                                 .velocity = rows.of(velocity)});
}

DenseTrajectory TrajectoryRecorder::take() {
  std::sort(trajectory_.records.begin(), trajectory_.records.end(),
            [](const auto& a, const auto& b) {
              return std::pair(a.first, a.step) < std::pair(b.first, b.step);
            });
  return std::move(trajectory_);
}

DenseTrajectory record_trajectory(Pipeline& pipeline, const GenerateRequest& request, int batch,
                                  const StepCallback& on_step) {
  TrajectoryRecorder recorder(request.prompts.size(), request.steps);
  const std::vector<GenerateRequest> parts = split_request(request, batch);
  const int all_steps = static_cast<int>(parts.size()) * request.steps;
  std::size_t first = 0;
  int before = 0;
  for (const GenerateRequest& part : parts) {
    pipeline.generate_pixels(
        part,
        [&](int finished, int) {
          if (on_step) on_step(before + finished, all_steps);
        },
        [&](int step, const FluxInputs& inputs, const torch::Tensor& velocity) {
          recorder.add({.first = first, .pictures = part.prompts.size()}, step, inputs, velocity);
        });
    first += part.prompts.size();
    before += request.steps;
  }
  return recorder.take();
}

VelocityError no_error(const DenseTrajectory& trajectory) {
  VelocityError error = empty_error(trajectory);
  for (const DenseTrajectory::Step& record : trajectory.records) {
    const torch::Tensor whole = squares_per_prompt(record.velocity, record.prompts);
    add_record(error, record, torch::zeros_like(whole), whole);
  }
  return error;
}

VelocityError measure_velocity_error(Pipeline& pipeline, const DenseTrajectory& trajectory,
                                     const std::function<void(std::size_t)>& finished) {
  std::vector<torch::Tensor> wrong(trajectory.records.size());  // of the records, [prompts]
  std::mutex one_at_a_time;
  std::size_t count = 0;
  run_tasks(pipeline.options().device(), wrong.size(), [&](std::size_t i) {
    const torch::InferenceMode inference;
    const DenseTrajectory::Step& record = trajectory.records[i];
    const torch::Tensor velocity = pipeline.transformer(record.inputs).to(torch::kFloat32);
    require_finite(velocity, pipeline.name + ", velocity of step " +
                                 std::to_string(record.step + 1) + " of " +
                                 std::to_string(trajectory.steps));
    wrong[i] = squares_per_prompt(velocity - record.velocity, record.prompts);
    const std::scoped_lock lock(one_at_a_time);
    if (finished) finished(++count);
  });
  VelocityError error = empty_error(trajectory);
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const DenseTrajectory::Step& record = trajectory.records[i];
    add_record(error, record, wrong[i], squares_per_prompt(record.velocity, record.prompts));
  }
  return error;
}

}  // namespace rtlynx
