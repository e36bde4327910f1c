// SPDX-License-Identifier: Apache-2.0
#include "layers/differentiable24.h"

#include <gtest/gtest.h>

#include "layers/keep_two_of_four.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 16;
constexpr std::int64_t kOut = 6;
constexpr std::int64_t kRank = 3;

torch::Tensor leaf(torch::IntArrayRef shape) { return torch::randn(shape).requires_grad_(); }

double relative_error(const torch::Tensor& value, const torch::Tensor& reference) {
  const torch::Tensor exact = reference.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

struct Layer {
  torch::Tensor x = leaf({2, 5, kIn});
  torch::Tensor weight = leaf({kOut, kIn});
  torch::Tensor bias = leaf({kOut});
  torch::Tensor down = leaf({kRank, kIn});
  torch::Tensor up = leaf({kOut, kRank});

  ops::Linear24Weights weights() const {
    return {.weight = weight, .bias = bias, .lora_down = down, .lora_up = up};
  }
  std::vector<torch::Tensor> leaves() const { return {x, weight, bias, down, up}; }
};

// The definition in fp64 torch operations, differentiated by torch.
torch::Tensor reference(const std::vector<torch::Tensor>& in, bool norm) {
  torch::Tensor kept = test::keep_two_of_four(in[0]);
  if (norm) kept = kept * (in[0].norm(2, {-1}, true) / kept.norm(2, {-1}, true));
  return torch::linear(kept, in[1], in[2]) + torch::linear(torch::linear(in[0], in[3]), in[4]);
}

class Differentiable24 : public testing::TestWithParam<bool> {};

TEST_P(Differentiable24, ValueIsTheOperators) {
  torch::manual_seed(31);
  const Layer layer;
  const torch::NoGradGuard no_grad;
  EXPECT_LE(relative_error(differentiable_linear24(layer.x, layer.weights(), GetParam()),
                           ops::linear24(layer.x, layer.weights(), GetParam())),
            1e-6);
}

TEST_P(Differentiable24, GradientsAreThoseOfTheDefinition) {
  torch::manual_seed(32);
  const Layer layer;
  std::vector<torch::Tensor> exact;
  for (const auto& tensor : layer.leaves()) {
    exact.push_back(tensor.detach().to(torch::kFloat64).requires_grad_());
  }
  const torch::Tensor direction = torch::randn({2, 5, kOut});
  (differentiable_linear24(layer.x, layer.weights(), GetParam()) * direction).sum().backward();
  (reference(exact, GetParam()) * direction).sum().backward();
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LE(relative_error(layer.leaves()[i].grad(), exact[i].grad()), 1e-5) << i;
  }
}

// Of the function itself: where no choice changes, a small step moves it as its gradient says.
TEST_P(Differentiable24, GradientPredictsASmallStep) {
  torch::manual_seed(33);
  const torch::Tensor x = leaf({4, kIn});
  const torch::Tensor direction = torch::randn({4, kIn});
  const torch::Tensor step = 1e-3 * torch::randn({4, kIn});
  const auto value = [&](const torch::Tensor& at) {
    return (select24(at, GetParam()) * direction).sum();
  };
  value(x).backward();
  const torch::NoGradGuard no_grad;
  ASSERT_TRUE(test::keep_two_of_four(x + step).ne(0).equal(test::keep_two_of_four(x - step).ne(0)));
  const double moved = (value(x + step) - value(x - step)).item<double>();
  EXPECT_NEAR(moved, 2 * (x.grad() * step).sum().item<double>(), 1e-3 * std::abs(moved));
}

TEST_P(Differentiable24, TokensOfZerosHaveFiniteGradients) {
  const torch::Tensor x = torch::zeros({2, kIn}).requires_grad_();
  select24(x, GetParam()).sum().backward();
  EXPECT_TRUE(x.grad().equal(torch::zeros({2, kIn})));
}

TEST_P(Differentiable24, GradientsHaveTheInputsType) {
  torch::manual_seed(34);
  const torch::Tensor x = torch::randn({2, kIn}, torch::kBFloat16).requires_grad_();
  select24(x, GetParam()).sum().backward();
  EXPECT_EQ(x.grad().scalar_type(), torch::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(Norm, Differentiable24, testing::Bool(), [](const auto& norm) {
  return norm.param ? std::string("with") : std::string("without");
});

}  // namespace
}  // namespace rtlynx
