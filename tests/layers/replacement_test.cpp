// SPDX-License-Identifier: Apache-2.0
#include "layers/replacement.h"

#include <gtest/gtest.h>

#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 32;
constexpr std::int64_t kOut = 12;

class Replacements : public testing::Test {
 protected:
  Replacements() { torch::manual_seed(61); }

  static torch::Tensor random(torch::IntArrayRef shape) { return torch::randn(shape); }

  std::vector<Replacement> all_forms() const {
    const torch::Tensor half = random({kOut, kIn}) * torch::tensor({1, 0, 1, 0}).repeat({kIn / 4});
    return {{.weight = random({kOut, kIn})},
            {.weight = half, .sparse = true},
            {.weight = half, .down = random({4, kIn}), .up = random({kOut, 4}), .sparse = true},
            {.down = random({5, kIn}), .up = random({kOut, 5})},
            {.axes = random({4, 8, 4}), .weight = random({kOut, kIn / 2})},
            {.axes = random({2, 16, 3}), .weight = random({kOut, 6})}};
  }
};

TEST_F(Replacements, GiveTheOutputsOfTheirEffectiveWeight) {
  const torch::Tensor x = random({2, 5, kIn}), bias = random({kOut});
  for (const Replacement& form : all_forms()) {
    form.check(kIn, kOut);
    const torch::Tensor weight = form.effective().to(torch::kFloat32);
    EXPECT_TRUE(form.forward(x, bias).allclose(torch::linear(x, weight, bias), 1e-4, 1e-4));
    EXPECT_TRUE(form.forward(x, {}).allclose(torch::linear(x, weight), 1e-4, 1e-4));
  }
}

TEST_F(Replacements, CountTheirMultiplications) {
  const std::vector<double> expected = {1,
                                        0.5,
                                        0.5 + 4.0 * (kIn + kOut) / (kIn * kOut),
                                        5.0 * (kIn + kOut) / (kIn * kOut),
                                        0.5 + 4.0 / kOut,
                                        (6.0 * kOut + 3.0 * kIn) / (kIn * kOut)};
  const std::vector<Replacement> forms = all_forms();
  for (std::size_t i = 0; i < forms.size(); ++i) {
    EXPECT_DOUBLE_EQ(forms[i].relative_flops(kIn, kOut), expected[i]) << i;
  }
}

TEST_F(Replacements, WhatDoesNotFitIsRefused) {
  const auto message = [](const Replacement& form) {
    return refusal([&] { form.check(kIn, kOut); });
  };
  const auto expect = [&](const Replacement& form, const std::string& reason) {
    EXPECT_NE(message(form).find(reason), std::string::npos) << message(form);
  };
  expect({}, "a weight or a low rank, got neither");
  expect({.weight = random({kIn, kOut})}, "a weight [12, 32], got [32, 12]");
  expect({.weight = random({kOut, kIn}), .sparse = true}, "2 of every 4");
  expect({.down = random({4, kIn})}, "down [r, 32] and up [12, r], got [4, 32] and none");
  expect({.down = random({4, kIn}), .up = random({kOut, 5})}, "got [4, 32] and [12, 5]");
  expect({.axes = random({4, 8, 4}), .down = random({4, kIn}), .up = random({kOut, 4})}, "axes");
  expect({.axes = random({3, 8, 4}), .weight = random({kOut, kIn / 2})}, "axes [K/g, g, h]");
  expect({.axes = random({4, 8, 4}), .weight = random({kOut, kIn})}, "a weight [12, 16]");
}

}  // namespace
}  // namespace rtlynx
