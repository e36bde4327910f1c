// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// The options of diffusers' FlowMatchEulerDiscreteScheduler that our models use.
struct SchedulerConfig {
  double shift = 1.0;
  bool use_dynamic_shifting = false;
  double base_shift = 0.5;
  double max_shift = 1.15;
  std::int64_t base_image_seq_len = 256;
  std::int64_t max_image_seq_len = 4096;
  std::optional<double> shift_terminal;
  std::int64_t num_train_timesteps = 1000;
  std::string where = "scheduler";  ///< the file, in messages
};

/// Reads a `scheduler/scheduler_config.json`. Throws Error, by name, for an option that changes the
/// schedule and that this implementation does not have.
SchedulerConfig scheduler_config_from_json(const nlohmann::json& config, const std::string& where);

/// The scheduler_config.json that diffusers would write.
nlohmann::json to_json(const SchedulerConfig& config);

/// Noise levels of a run: `sigmas` has steps + 1 entries from 1 (noise) down to 0 (image).
struct Schedule {
  std::vector<float> sigmas;
  int steps() const { return static_cast<int>(sigmas.size()) - 1; }
};

/// The schedule that FLUX's, Qwen-Image's and Z-Image's pipelines ask for: linspace(1, 1/steps),
/// shifted statically, or exponentially by the mu of `image_tokens`, then stretched so that the
/// last level is shift_terminal. Throws UsageError for fewer than one step, Error for options that
/// give levels which are not finite or do not fall.
Schedule make_schedule(const SchedulerConfig& config, int steps, std::int64_t image_tokens);

/// One Euler step from level `step` to the next: sample + (sigma' - sigma) * velocity, in fp32.
torch::Tensor euler_step(const Schedule& schedule, int step, const torch::Tensor& sample,
                         const torch::Tensor& velocity);

/// FLUX's mu: linear in the number of image tokens, not clamped.
double dynamic_shift_mu(const SchedulerConfig& config, std::int64_t image_tokens);

}  // namespace rtlynx
