// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double weight_decay = 0.01;
  double epsilon = 1e-8;
  double max_gradient_norm = 1.0;
  double ema_decay = 0.9995;
};

/// AdamW (arXiv 1711.05101) over torch's fused step, with gradient clipping and an exponential
/// moving average of the weights. All its state can be listed by name, to save and restore it.
class AdamW {
 public:
  AdamW(std::vector<std::pair<std::string, torch::Tensor>> parameters, const AdamWOptions& options);

  /// Applies the gradients and clears them. Parameters without a gradient are an error.
  void step(double learning_rate);

  /// Copies the averaged weights into the parameters.
  void load_average();

  /// "weights.*", "average.*", "first_moment.*", "second_moment.*" and "steps", by reference.
  std::vector<std::pair<std::string, torch::Tensor>> state() const;

  std::int64_t finished_steps() const;

 private:
  void clip(const std::vector<torch::Tensor>& gradients) const;

  AdamWOptions options_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> weights_;
  std::vector<torch::Tensor> averages_;
  std::vector<torch::Tensor> first_moments_;
  std::vector<torch::Tensor> second_moments_;
  torch::Tensor steps_;  // fp32 scalar, on the weights' device, as torch's fused step wants it
};

}  // namespace rtlynx
