// SPDX-License-Identifier: Apache-2.0
#include "pipeline/scheduler.h"

#include <cmath>

#include "base/error.h"
#include "io/json.h"

namespace rtlynx {
namespace {

// sigma' = e^mu / (e^mu + 1 / sigma - 1)
double shift_exponentially(double sigma, double mu) {
  return std::exp(mu) / (std::exp(mu) + (1.0 / sigma - 1.0));
}

double shift_statically(double sigma, double shift) {
  return shift * sigma / (1.0 + (shift - 1.0) * sigma);
}

// Stretches 1 - sigma so that the last level becomes `terminal`.
void stretch_to_terminal(std::vector<double>& sigmas, double terminal) {
  const double factor = (1.0 - sigmas.back()) / (1.0 - terminal);
  for (double& sigma : sigmas) sigma = 1.0 - (1.0 - sigma) / factor;
}

constexpr const char* kClassName = "FlowMatchEulerDiscreteScheduler";

// Options that we do not have. diffusers writes them all; only their neutral value is accepted, and
// null, which stands for it.
void refuse_unsupported_options(const nlohmann::json& config, const std::string& where) {
  const nlohmann::json neutral = {
      {"invert_sigmas", false},          {"use_karras_sigmas", false},
      {"use_exponential_sigmas", false}, {"use_beta_sigmas", false},
      {"stochastic_sampling", false},    {"time_shift_type", "exponential"}};
  for (const auto& [key, value] : neutral.items()) {
    if (json_has(config, key) && config[key] != value) {
      fail(where, key + " = " + value.dump(),
           printable_json(config[key]) + ", which is not supported");
    }
  }
}

}  // namespace

SchedulerConfig scheduler_config_from_json(const nlohmann::json& config, const std::string& where) {
  const std::string kind = json_string(config, "_class_name", where);
  require(kind == kClassName, where, std::string("_class_name ") + kClassName, kind);
  refuse_unsupported_options(config, where);

  SchedulerConfig result{.where = where};
  const auto number = [&](const char* key, double fallback) {
    return json_number(config, key, where, {.fallback = fallback});
  };
  const auto count = [&](const char* key, std::int64_t fallback) {
    return json_int(config, key, where, {.min = 1, .max = 1 << 24, .fallback = fallback});
  };
  result.shift = number("shift", result.shift);
  result.use_dynamic_shifting =
      json_bool(config, "use_dynamic_shifting", where, result.use_dynamic_shifting);
  result.base_shift = number("base_shift", result.base_shift);
  result.max_shift = number("max_shift", result.max_shift);
  result.base_image_seq_len = count("base_image_seq_len", result.base_image_seq_len);
  result.max_image_seq_len = count("max_image_seq_len", result.max_image_seq_len);
  result.num_train_timesteps = count("num_train_timesteps", result.num_train_timesteps);
  if (json_has(config, "shift_terminal")) {
    result.shift_terminal = json_number(config, "shift_terminal", where);
  }
  require(result.shift > 0, where, "shift > 0", std::to_string(result.shift));
  require(result.base_image_seq_len < result.max_image_seq_len, where,
          "base_image_seq_len < max_image_seq_len",
          std::to_string(result.base_image_seq_len) + " and " +
              std::to_string(result.max_image_seq_len));
  return result;
}

nlohmann::json to_json(const SchedulerConfig& config) {
  nlohmann::json json = {{"_class_name", kClassName},
                         {"shift", config.shift},
                         {"use_dynamic_shifting", config.use_dynamic_shifting},
                         {"base_shift", config.base_shift},
                         {"max_shift", config.max_shift},
                         {"base_image_seq_len", config.base_image_seq_len},
                         {"max_image_seq_len", config.max_image_seq_len},
                         {"num_train_timesteps", config.num_train_timesteps}};
  json["shift_terminal"] = config.shift_terminal ? nlohmann::json(*config.shift_terminal) : nullptr;
  return json;
}

namespace {

void check_levels(const std::vector<double>& sigmas, const SchedulerConfig& config) {
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    const bool falls = sigmas[i] > 0 && (i == 0 || sigmas[i] < sigmas[i - 1]);
    if (std::isfinite(sigmas[i]) && falls) continue;
    fail(config.where,
         "shift, base_shift, max_shift and shift_terminal of finite, falling noise levels",
         std::to_string(sigmas[i]) + " at step " + std::to_string(i + 1) + " of " +
             std::to_string(sigmas.size()));
  }
}

}  // namespace

double dynamic_shift_mu(const SchedulerConfig& config, std::int64_t image_tokens) {
  const double slope = (config.max_shift - config.base_shift) /
                       static_cast<double>(config.max_image_seq_len - config.base_image_seq_len);
  return config.base_shift + slope * static_cast<double>(image_tokens - config.base_image_seq_len);
}

Schedule make_schedule(const SchedulerConfig& config, int steps, std::int64_t image_tokens) {
  if (steps < 1) {
    throw UsageError("steps: required at least 1, got " + std::to_string(steps));
  }
  std::vector<double> sigmas;
  for (int i = 0; i < steps; ++i) {
    const double last = 1.0 / steps;
    const double linear = steps == 1 ? 1.0 : 1.0 + (last - 1.0) * i / (steps - 1);
    sigmas.push_back(config.use_dynamic_shifting
                         ? shift_exponentially(linear, dynamic_shift_mu(config, image_tokens))
                         : shift_statically(linear, config.shift));
  }
  // One step has nothing to stretch: its only level is 1.
  if (config.shift_terminal && steps > 1) stretch_to_terminal(sigmas, *config.shift_terminal);

  check_levels(sigmas, config);

  Schedule schedule;
  schedule.sigmas.assign(sigmas.begin(), sigmas.end());
  schedule.sigmas.push_back(0.0F);
  return schedule;
}

torch::Tensor euler_step(const Schedule& schedule, int step, const torch::Tensor& sample,
                         const torch::Tensor& velocity) {
  const auto at = static_cast<std::size_t>(step);
  const float distance = schedule.sigmas[at + 1] - schedule.sigmas[at];
  return sample.to(torch::kFloat32) + distance * velocity.to(torch::kFloat32);
}

}  // namespace rtlynx
