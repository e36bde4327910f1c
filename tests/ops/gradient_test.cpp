// SPDX-License-Identifier: Apache-2.0
// The operators have no gradients. Who asks for one is told, in C++ as in Python.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "ops/ops.h"

namespace rtlynx {
namespace {

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "accepted";
}

TEST(OpsGradient, IsRefusedWhereItWouldBeDropped) {
  const at::Tensor x = at::ones({2, 3, 32}).requires_grad_();
  const at::Tensor weight = at::ones({8, 32}).requires_grad_();
  const at::Tensor plain = at::ones({2, 3, 32});
  const std::map<std::string, std::function<at::Tensor()>> results = {
      {"sparsify24", [&] { return std::get<0>(ops::sparsify24(x)); }},
      {"pack",
       [&] {
         return ops::pack(x, {.down = at::ones({16, 32})}).low;
       }},
      {"product", [&] { return ops::product(ops::pack(plain), {{.weight = weight}}).front(); }},
      {"linear24", [&] { return ops::linear24(plain, {.weight = weight}); }},
      {"residual_norm", [&] { return ops::residual_norm(x, {}).h; }},
      {"head_norm", [&] { return ops::head_norm({.q = {x}, .k = {plain}}, {}, 16).q; }},
      {"swiglu", [&] { return ops::swiglu(plain, x); }}};
  for (const auto& [op, result] : results) {
    const at::Tensor y = result();
    EXPECT_TRUE(y.requires_grad()) << op;
    EXPECT_THAT(message_of([&] { y.sum().backward(); }), ::testing::HasSubstr("rtlynx::" + op));
    EXPECT_FALSE(x.grad().defined() || weight.grad().defined()) << op;
  }
}

TEST(OpsGradient, IsNobodysConcernWithoutGradMode) {
  const at::Tensor weight = at::ones({8, 32}).requires_grad_();
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(ops::linear24(at::ones({2, 32}), {.weight = weight}).requires_grad());
}

}  // namespace
}  // namespace rtlynx
