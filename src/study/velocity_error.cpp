// SPDX-License-Identifier: Apache-2.0
#include "study/velocity_error.h"

#include <cmath>
#include <limits>
#include <string>

#include "layers/finite.h"

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

DenseTrajectory record_trajectory(Pipeline& pipeline, const GenerateRequest& request, int batch,
                                  const StepCallback& on_step) {
  DenseTrajectory trajectory{.prompts = request.prompts.size(), .steps = request.steps};
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
          trajectory.records.push_back({.step = step,
                                        .first = first,
                                        .prompts = part.prompts.size(),
                                        .inputs = inputs,
                                        .velocity = velocity});
        });
    first += part.prompts.size();
    before += request.steps;
  }
  return trajectory;
}

VelocityError no_error(const DenseTrajectory& trajectory) {
  return {.by_prompt = std::vector<SquaredError>(trajectory.prompts),
          .by_step = std::vector<SquaredError>(static_cast<std::size_t>(trajectory.steps))};
}

VelocityError measure_velocity_error(Pipeline& pipeline, const DenseTrajectory& trajectory,
                                     const std::function<void(std::size_t)>& finished) {
  const torch::InferenceMode inference;
  VelocityError error = no_error(trajectory);
  std::size_t count = 0;
  for (const DenseTrajectory::Step& record : trajectory.records) {
    const torch::Tensor velocity = pipeline.transformer(record.inputs).to(torch::kFloat32);
    require_finite(velocity, pipeline.name + ", velocity of step " +
                                 std::to_string(record.step + 1) + " of " +
                                 std::to_string(trajectory.steps));
    const torch::Tensor wrong = squares_per_prompt(velocity - record.velocity, record.prompts);
    const torch::Tensor whole = squares_per_prompt(record.velocity, record.prompts);
    for (std::size_t i = 0; i < record.prompts; ++i) {
      const auto index = static_cast<std::int64_t>(i);
      const SquaredError one{.wrong = wrong[index].item<double>(),
                             .whole = whole[index].item<double>()};
      error.by_prompt[record.first + i] += one;
      error.by_step[static_cast<std::size_t>(record.step)] += one;
    }
    if (finished) finished(++count);
  }
  return error;
}

}  // namespace rtlynx
