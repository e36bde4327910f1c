// SPDX-License-Identifier: Apache-2.0
#include "mini/adamw.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include <map>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr double kRate = 0.01;

torch::Tensor parameter(std::uint64_t seed) {
  torch::manual_seed(seed);
  return torch::randn({3, 4}).requires_grad_();
}

// Some smooth loss of w.
torch::Tensor loss_of(const torch::Tensor& w) { return (w * w).sum() + w.sin().sum(); }

TEST(AdamW, StepsAsTorchsOwn) {
  torch::Tensor ours = parameter(1);
  torch::Tensor theirs = ours.detach().clone().requires_grad_();
  const AdamWOptions options{.weight_decay = 0.1, .max_gradient_norm = 1e9};
  AdamW optimizer({{"w", ours}}, options);
  torch::optim::AdamW reference({theirs}, torch::optim::AdamWOptions(kRate)
                                              .betas({options.beta1, options.beta2})
                                              .weight_decay(options.weight_decay)
                                              .eps(options.epsilon));
  for (int i = 0; i < 5; ++i) {
    loss_of(ours).backward();
    optimizer.step(kRate);
    reference.zero_grad();
    loss_of(theirs).backward();
    reference.step();
  }
  EXPECT_TRUE(ours.allclose(theirs, 1e-5, 1e-6));
  EXPECT_EQ(optimizer.finished_steps(), 5);
}

TEST(AdamW, ClipsTheGradientOfAllParametersTogether) {
  torch::Tensor a = torch::zeros({2}).requires_grad_(), b = torch::zeros({2}).requires_grad_();
  AdamW optimizer({{"a", a}, {"b", b}}, {.beta1 = 0.0, .max_gradient_norm = 1.0});
  (30.0 * a.sum() + 40.0 * b.sum()).backward();  // norm sqrt(2) * 50
  optimizer.step(kRate);
  // With beta1 = 0 the first moment is the clipped gradient itself.
  const auto all = optimizer.state();
  const std::map<std::string, torch::Tensor> state(all.begin(), all.end());
  EXPECT_TRUE(state.at("first_moment.a").allclose(torch::full({2}, 0.6 / std::sqrt(2.0)), 1e-4));
  EXPECT_TRUE(state.at("first_moment.b").allclose(torch::full({2}, 0.8 / std::sqrt(2.0)), 1e-4));
}

TEST(AdamW, AveragesTheWeights) {
  torch::Tensor w = parameter(2);
  const torch::Tensor start = w.detach().clone();
  AdamW optimizer({{"w", w}}, {.ema_decay = 0.75});
  loss_of(w).backward();
  optimizer.step(kRate);
  const torch::Tensor wanted = 0.75 * start + 0.25 * w.detach();
  optimizer.load_average();
  EXPECT_TRUE(w.allclose(wanted, 1e-6, 1e-7));
}

TEST(AdamW, WantsAGradientForEveryParameter) {
  torch::Tensor used = parameter(3), unused = parameter(4);
  AdamW optimizer({{"used", used}, {"unused", unused}}, {});
  loss_of(used).backward();
  try {
    optimizer.step(kRate);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "AdamW: required a gradient for unused, got none");
  }
}

}  // namespace
}  // namespace rtlynx
