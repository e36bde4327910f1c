// SPDX-License-Identifier: Apache-2.0
#include "mini/adamw.h"

#include <algorithm>

#include "base/error.h"

namespace rtlynx {

AdamW::AdamW(std::vector<std::pair<std::string, torch::Tensor>> parameters,
             const AdamWOptions& options)
    : options_(options) {
  require(!parameters.empty(), "AdamW", "at least one parameter", "none");
  for (auto& [name, weight] : parameters) {
    names_.push_back(name);
    weights_.push_back(weight);
    averages_.push_back(weight.detach().clone());
    first_moments_.push_back(torch::zeros_like(weight));
    second_moments_.push_back(torch::zeros_like(weight));
  }
  steps_ = torch::zeros({}, weights_.front().options().dtype(torch::kFloat32).requires_grad(false));
}

void AdamW::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (!weights_[i].grad().defined()) fail("AdamW", "a gradient for " + names_[i], "none");
    gradients.push_back(weights_[i].grad());
  }
  clip(gradients);
  steps_ += 1;
  const std::vector<torch::Tensor> steps(weights_.size(), steps_);
  torch::_fused_adamw_(weights_, gradients, first_moments_, second_moments_,
                       /*max_exp_avg_sqs=*/{}, steps, learning_rate, options_.beta1, options_.beta2,
                       options_.weight_decay, options_.epsilon, /*amsgrad=*/false,
                       /*maximize=*/false);
  torch::_foreach_lerp_(averages_, weights_, 1.0 - options_.ema_decay);
  for (auto& weight : weights_) weight.mutable_grad().reset();
}

// The factor stays on the device: no wait for the GPU.
void AdamW::clip(const std::vector<torch::Tensor>& gradients) const {
  const torch::Tensor norm = torch::stack(torch::_foreach_norm(gradients)).norm();
  const torch::Tensor factor = (options_.max_gradient_norm / (norm + 1e-6)).clamp_max(1.0);
  torch::_foreach_mul_(gradients, factor);
}

void AdamW::load_average() {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < weights_.size(); ++i) weights_[i].copy_(averages_[i]);
}

std::vector<std::pair<std::string, torch::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, torch::Tensor>> all;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    all.emplace_back("weights." + names_[i], weights_[i].detach());
    all.emplace_back("average." + names_[i], averages_[i]);
    all.emplace_back("first_moment." + names_[i], first_moments_[i]);
    all.emplace_back("second_moment." + names_[i], second_moments_[i]);
  }
  all.emplace_back("steps", steps_);
  return all;
}

std::int64_t AdamW::finished_steps() const {
  return static_cast<std::int64_t>(steps_.item<float>());
}

}  // namespace rtlynx
