// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "mini/drawn_batch.h"

namespace rtlynx {

/// What the dense transformer read and said on the way from noise to `prompts` pictures: the ground
/// on which other forms of it are compared, step by step, without errors that pile up. The tensors
/// stay on the pipeline's device, of one batch and step each.
struct DenseTrajectory {
  struct Step {
    int step = 0;             ///< from 0
    std::size_t first = 0;    ///< index of the record's first prompt
    std::size_t prompts = 0;  ///< in the record, `apart` from one to the next
    std::size_t apart = 1;
    FluxInputs inputs;
    torch::Tensor velocity;  // [B, I, C] fp32, B = prompts or, with guidance, twice as many
  };
  std::size_t prompts = 0;
  int steps = 0;
  std::vector<Step> records;
};

/// Records a trajectory of pictures while they are drawn.
class TrajectoryRecorder {
 public:
  /// Keeps of every prompt one step in `stride`, of the next prompt the step before: every step is
  /// kept of one prompt in `stride`. 1 keeps all. Of prompts beyond `prompts` nothing is kept.
  TrajectoryRecorder(std::size_t prompts, int steps, int stride = 1);

  /// How many steps of single pictures it keeps.
  std::int64_t picture_steps() const;

  /// A step of a batch. Batches may come in any order.
  void add(const DrawnBatch& batch, int step, const FluxInputs& inputs,
           const torch::Tensor& velocity);

  /// What was kept, by first prompt and step.
  DenseTrajectory take();

 private:
  DenseTrajectory trajectory_;
  std::size_t stride_;
};

/// Draws the request with the transformer as it is.
DenseTrajectory record_trajectory(Pipeline& pipeline, const GenerateRequest& request, int batch,
                                  const StepCallback& on_step = {});

/// ||v - v_dense||^2 and ||v_dense||^2, summed over pixels, guidance branches and either the steps
/// of a prompt or the prompts of a step.
struct SquaredError {
  double wrong = 0;
  double whole = 0;

  SquaredError& operator+=(const SquaredError& other);
  double relative() const;  ///< sqrt(wrong / whole); of a whole of 0: 0, or infinity
};

/// The relative L2 error of the velocity before guidance.
struct VelocityError {
  std::vector<SquaredError> by_prompt;
  std::vector<SquaredError> by_step;

  /// Over all prompts, or over those `drawn`, repetitions included.
  double relative() const;
  double relative(std::span<const std::size_t> drawn) const;
};

/// That of the dense transformer itself: nothing wrong, and the whole that was recorded.
VelocityError no_error(const DenseTrajectory& trajectory);

/// Runs the transformer, in whatever form it is now, on the trajectory's inputs; on the CPU on as
/// many at a time as torch has threads. `finished` counts the trajectory's records.
VelocityError measure_velocity_error(Pipeline& pipeline, const DenseTrajectory& trajectory,
                                     const std::function<void(std::size_t)>& finished = {});

}  // namespace rtlynx
