// SPDX-License-Identifier: Apache-2.0
#include "compensate/moments.h"

#include <gtest/gtest.h>

#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kChannels = 12;

class Moments : public testing::Test {
 protected:
  Moments() { torch::manual_seed(41); }

  torch::Tensor x_ = torch::randn({3, 7, kChannels});
  torch::Tensor s_ = torch::randn({3, 7, kChannels});
};

TEST_F(Moments, AreSumsOverTokens) {
  InputMoments moments;
  moments.add(x_, s_);
  const torch::Tensor x = x_.flatten(0, 1).to(torch::kFloat64);
  const torch::Tensor s = s_.flatten(0, 1).to(torch::kFloat64);
  EXPECT_EQ(moments.tokens, 21);
  EXPECT_EQ(moments.channels(), kChannels);
  EXPECT_TRUE(moments.xx.allclose(x.t().mm(x), 1e-5, 1e-5));
  EXPECT_TRUE(moments.xs.allclose(x.t().mm(s), 1e-5, 1e-5));
  EXPECT_TRUE(moments.ss.allclose(s.t().mm(s), 1e-5, 1e-5));
  EXPECT_TRUE(moments.second_moment().allclose(x.t().mm(x) / 21, 1e-5, 1e-5));
}

// Of which blocks are multiplied, the last of them narrower, and blocks are copied.
TEST_F(Moments, OfWideInputsAreTheSame) {
  const std::int64_t wide = 600;
  const torch::Tensor x = torch::randn({50, wide}), s = torch::randn({50, wide});
  InputMoments moments;
  moments.add(x, s);
  const torch::Tensor exact_x = x.to(torch::kFloat64), exact_s = s.to(torch::kFloat64);
  const auto error = [](const torch::Tensor& sum, const torch::Tensor& exact) {
    return ((sum - exact).norm() / exact.norm()).item<double>();
  };
  const double dense =
      error(torch::mm(x.t(), x).to(torch::kFloat64), torch::mm(exact_x.t(), exact_x));
  EXPECT_LE(error(moments.xx, exact_x.t().mm(exact_x)), 2 * dense);
  EXPECT_LE(error(moments.ss, exact_s.t().mm(exact_s)), 2 * dense);
  EXPECT_LE(error(moments.xs, exact_x.t().mm(exact_s)), 2 * dense);
  EXPECT_TRUE(moments.ss.equal(moments.ss.t()));
}

TEST_F(Moments, MergedShardsAreOneRun) {
  InputMoments whole, first, second;
  for (std::int64_t i = 0; i < 3; ++i) {
    whole.add(x_[i], s_[i]);
    (i < 2 ? first : second).add(x_[i], s_[i]);
  }
  InputMoments merged;
  merged.merge(first);
  merged.merge(second);
  merged.merge(InputMoments());
  EXPECT_EQ(merged.tokens, whole.tokens);
  EXPECT_TRUE(merged.xx.allclose(whole.xx, 1e-15, 1e-15));
  EXPECT_TRUE(merged.xs.allclose(whole.xs, 1e-15, 1e-15));
  EXPECT_TRUE(merged.ss.allclose(whole.ss, 1e-15, 1e-15));
  EXPECT_EQ(first.tokens, 14);  // a merge takes a copy
}

// 2^24 + 1 is no fp32 number: a sum kept in fp32 would lose every further token.
TEST_F(Moments, ManyTokensDoNotWashOutTheNext) {
  InputMoments moments;
  moments.add(torch::full({1, 4}, 4096.0));
  for (int i = 0; i < 5; ++i) moments.add(torch::ones({1, 4}));
  EXPECT_EQ(moments.xx[0][1].item<double>(), 4096.0 * 4096.0 + 5);
}

TEST_F(Moments, SurviveAsTensors) {
  GroupMoments moments;
  moments["a.b"].add(x_, s_);
  moments["c"].add(x_);
  const auto tensors = named_tensors(moments);
  EXPECT_EQ(tensors.size(), 6U);
  const GroupMoments read = moments_from_tensors({tensors.begin(), tensors.end()}, "m.safetensors");
  ASSERT_EQ(read.size(), 2U);
  EXPECT_TRUE(read.at("a.b").ss.equal(moments["a.b"].ss));
  EXPECT_EQ(read.at("a.b").tokens, 21);
  EXPECT_FALSE(read.at("c").xs.defined());
}

TEST_F(Moments, IncompleteTensorsAreRefused) {
  GroupMoments moments;
  moments["a"].add(x_, s_);
  const auto tensors = named_tensors(moments);
  const auto read_without = [&](const std::string& missing) {
    std::map<std::string, torch::Tensor> kept(tensors.begin(), tensors.end());
    kept.erase(missing);
    return refusal([&] { moments_from_tensors(kept, "m"); });
  };
  for (const auto& [name, tensor] : tensors) {
    EXPECT_NE(read_without(name).find("m, group a: required xx and tokens"), std::string::npos)
        << name;
  }
  EXPECT_NE(refusal([] {
              moments_from_tensors({{"a.xy", torch::eye(2, torch::kFloat64)}}, "m");
            }).find("a name that ends in"),
            std::string::npos);
  EXPECT_NE(refusal([] {
              moments_from_tensors({{"a.xx", torch::eye(2)}}, "m");
            }).find("a square fp64 matrix"),
            std::string::npos);
}

TEST_F(Moments, WhatDoesNotFitIsNamed) {
  InputMoments moments;
  EXPECT_NE(refusal([&] { moments.second_moment(); }).find("at least one token"),
            std::string::npos);
  moments.add(x_, s_);
  EXPECT_EQ(refusal([&] {
              moments.add(torch::zeros({2, 8}), torch::zeros({2, 8}));
            }),
            "InputMoments: required inputs of 12 channels, got 8");
  EXPECT_NE(refusal([&] { moments.add(x_); }).find("got inputs alone"), std::string::npos);
  EXPECT_NE(refusal([&] { moments.add(x_, s_[0]); }).find("a selection of the input's shape"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              moments.add(torch::zeros({2, 12}, torch::kInt32));
            }).find("floating-point"),
            std::string::npos);
  InputMoments inputs;
  inputs.add(x_);
  EXPECT_NE(refusal([&] { inputs.add(x_, s_); }).find("required inputs alone"), std::string::npos);
  EXPECT_NE(refusal([&] { moments.merge(inputs); }).find("the same sums"), std::string::npos);
}

}  // namespace
}  // namespace rtlynx
