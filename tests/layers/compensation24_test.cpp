// SPDX-License-Identifier: Apache-2.0
#include "layers/compensation24.h"

#include <gtest/gtest.h>

#include "layers/keep_two_of_four.h"
#include "refusal.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kIn = 32;
constexpr std::int64_t kOut = 12;
constexpr std::int64_t kBlock = 8;

// Orthogonal plus a little: far from singular.
torch::Tensor random_blocks() {
  torch::Tensor blocks = torch::empty({kIn / kBlock, kBlock, kBlock});
  for (std::int64_t b = 0; b < blocks.size(0); ++b) {
    blocks[b] = std::get<0>(torch::linalg_qr(torch::randn({kBlock, kBlock})));
  }
  return blocks + 0.05 * torch::randn_like(blocks);
}

class Transforms : public testing::Test {
 protected:
  Transforms() { torch::manual_seed(21); }

  // z W_z^T = x W^T, in fp64.
  void expect_same_product(const InputTransform& transform) {
    transform.check(kIn);
    const torch::Tensor x = torch::randn({3, 5, kIn}, torch::kFloat64);
    const torch::Tensor weight = torch::randn({kOut, kIn}, torch::kFloat64);
    const torch::Tensor z = transform.apply(x);
    ASSERT_EQ(z.sizes(), x.sizes());
    EXPECT_TRUE(torch::linear(z, transform.weight_for_z(weight))
                    .allclose(torch::linear(x, weight), 1e-9, 1e-9));
  }

  static InputTransform of_blocks(const torch::Tensor& blocks) {
    InputTransform transform;
    transform.blocks = blocks;
    return transform;
  }
};

TEST_F(Transforms, BlocksActOnTheirOwnChannels) {
  const torch::Tensor blocks = random_blocks().to(torch::kFloat64);
  expect_same_product(of_blocks(blocks));
  const torch::Tensor x = torch::randn({7, kIn}, torch::kFloat64);
  const torch::Tensor z = of_blocks(blocks).apply(x);
  for (std::int64_t b = 0; b < kIn / kBlock; ++b) {
    EXPECT_TRUE(z.narrow(1, b * kBlock, kBlock)
                    .allclose(x.narrow(1, b * kBlock, kBlock).matmul(blocks[b])));
  }
}

TEST_F(Transforms, ScaleComesBeforeThePermutation) {
  InputTransform transform;
  transform.scale = torch::rand({kIn}, torch::kFloat64) + 0.5;
  expect_same_product(transform);
  transform.permutation = torch::randperm(kIn);
  expect_same_product(transform);
  const torch::Tensor x = torch::randn({kIn}, torch::kFloat64);
  const std::int64_t from = transform.permutation[3].item<std::int64_t>();
  EXPECT_EQ(transform.apply(x.unsqueeze(0))[0][3].item<double>(),
            (x[from] * transform.scale[from]).item<double>());
}

TEST_F(Transforms, NoneLeavesInputAndWeight) {
  const InputTransform none;
  const torch::Tensor x = torch::randn({2, kIn});
  EXPECT_TRUE(none.is_identity());
  EXPECT_TRUE(none.apply(x).is_same(x));
  expect_same_product(none);
}

TEST_F(Transforms, WhatDoesNotFitIsNamed) {
  InputTransform transform = of_blocks(torch::zeros({3, kBlock, kBlock}));
  EXPECT_EQ(refusal([&] { transform.check(kIn); }),
            "Compensation24: required blocks [K/g, g, g] for K = 32, got [3, 8, 8]");
  transform.blocks = random_blocks();
  transform.scale = torch::ones({kIn});
  EXPECT_NE(refusal([&] { transform.check(kIn); }).find("got both"), std::string::npos);
  transform.blocks = torch::Tensor();
  transform.scale = torch::ones({kIn - 1});
  EXPECT_NE(refusal([&] { transform.check(kIn); }).find("a scale [32]"), std::string::npos);
  transform.scale = torch::ones({kIn});
  transform.scale[4] = 0.0;
  EXPECT_NE(refusal([&] {
              transform.weight_for_z(torch::ones({kOut, kIn}));
            }).find("zero"),
            std::string::npos);
  transform.scale = torch::Tensor();
  transform.permutation = torch::zeros({kIn}, torch::kInt64);
  EXPECT_NE(refusal([&] { transform.check(kIn); }).find("a permutation of 0 to 31"),
            std::string::npos);
}

TEST(Compensation24Checks, NameWhatDoesNotFitTheLayer) {
  const auto check = [](const Compensation24& compensation) {
    return refusal([&] { compensation.check(kIn, kOut); });
  };
  Compensation24 compensation;
  EXPECT_EQ(check(compensation), "accepted");
  compensation.down = torch::zeros({4, kIn});
  EXPECT_EQ(check(compensation),
            "Compensation24: required down [r, 32] and up [12, r], got [4, 32] and none");
  compensation.up = torch::zeros({kOut, 5});
  EXPECT_EQ(check(compensation),
            "Compensation24: required down [r, 32] and up [12, r], got [4, 32] and [12, 5]");
  compensation.up = torch::zeros({kOut, 4});
  EXPECT_EQ(check(compensation), "accepted");
  EXPECT_EQ(compensation.rank(), 4);
  compensation.weight = torch::zeros({kIn, kOut});
  EXPECT_EQ(check(compensation), "Compensation24: required a weight [12, 32], got [32, 12]");
  compensation.weight = torch::Tensor();
  compensation.transform.scale = torch::ones({kIn});
  EXPECT_EQ(check(compensation), "accepted");  // the weight follows from the transform
}

}  // namespace
}  // namespace rtlynx
