// SPDX-License-Identifier: Apache-2.0
#include "study/trajectory_batches.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"

namespace rtlynx {
namespace {

std::int64_t items_of(const CalibrationRun& run) {
  const std::int64_t branches = run.guidance == 1.0 ? 1 : 2;
  return branches * run.prompts * run.steps;
}

/// One pass of the model among a trajectory's records.
struct Item {
  const DenseTrajectory::Step* record;
  std::int64_t row;
};

// Item `index` of the trajectory, counted through its records.
Item find_item(const DenseTrajectory& trajectory, std::int64_t index) {
  for (const DenseTrajectory::Step& record : trajectory.records) {
    if (index < record.velocity.size(0)) return {.record = &record, .row = index};
    index -= record.velocity.size(0);
  }
  fail("TrajectoryBatches", "an item of the trajectory", std::to_string(index) + " beyond it");
}

}  // namespace

TrajectoryBatches::TrajectoryBatches(const CalibrationRun& run, std::int64_t size)
    : run_(run), size_(size), steps_per_round_(std::max<std::int64_t>(1, items_of(run) / size)) {
  calibration_request(run);  // refuses what cannot be drawn
}

void TrajectoryBatches::draw(Pipeline& pipeline, std::int64_t round) {
  CalibrationRun run = run_;
  run.seed += static_cast<std::uint64_t>(round);
  GenerateRequest request = calibration_request(run);
  request.width = request.height = pipeline.trained_size;
  for (std::uint64_t& seed : request.seeds) {
    seed += static_cast<std::uint64_t>(round) * request.prompts.size();
  }
  drawn_ = {};  // before the next takes as much again
  drawn_ = record_trajectory(pipeline, request, run.batch);
  round_ = round;
}

VelocityBatch TrajectoryBatches::at(Pipeline& pipeline, std::int64_t step) {
  const std::int64_t round = step / steps_per_round_;
  if (round != round_) draw(pipeline, round);
  auto generator =
      at::detail::createCPUGenerator(run_.seed ^ (static_cast<std::uint64_t>(step) << 20));
  const torch::Tensor chosen = torch::randint(items_of(run_), {size_}, generator, torch::kInt64);
  std::vector<torch::Tensor> latents, texts, pooled, times, velocities;
  for (std::int64_t i = 0; i < size_; ++i) {
    const auto [record, row] = find_item(drawn_, chosen[i].item<std::int64_t>());
    latents.push_back(record->inputs.hidden_states[row]);
    texts.push_back(record->inputs.encoder_hidden_states[row]);
    pooled.push_back(record->inputs.pooled_projections[row]);
    times.push_back(record->inputs.timestep[row]);
    velocities.push_back(record->velocity[row]);
  }
  // Copies throughout: tensors of inference mode cannot be saved for a gradient.
  const FluxInputs& any = drawn_.records.front().inputs;
  return {.inputs = {.hidden_states = torch::stack(latents),
                     .encoder_hidden_states = torch::stack(texts),
                     .pooled_projections = torch::stack(pooled),
                     .timestep = torch::stack(times),
                     .guidance = {},
                     .img_ids = any.img_ids.clone(),
                     .txt_ids = any.txt_ids.clone()},
          .velocity = torch::stack(velocities)};
}

}  // namespace rtlynx
