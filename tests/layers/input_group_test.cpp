// SPDX-License-Identifier: Apache-2.0
#include "layers/input_group.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace rtlynx {
namespace {

// The pack reads a tail from where it lies only behind a multiple of 128 channels.
class InputWithTail : public testing::TestWithParam<std::int64_t> {};

TEST_P(InputWithTail, IsTheInputInOnePiece) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  const std::int64_t head = GetParam(), tail = 48;
  SparseLinear linear(head + tail, 16, torch::TensorOptions());
  linear->weight.normal_();
  linear->bias.normal_();
  linear->set_mode(LinearMode::norm);
  const InputGroup group({linear});
  const torch::Tensor x = torch::randn({2, 5, head + tail});
  const torch::Tensor apart = group
                                  .forward({.x = x.narrow(2, 0, head).contiguous(),
                                            .tail = x.narrow(2, head, tail).contiguous()})
                                  .front();
  EXPECT_TRUE(torch::equal(apart, group.forward({.x = x}).front()));
  EXPECT_GT(apart.abs().max().item<float>(), 0.1);
}

INSTANTIATE_TEST_SUITE_P(Channels, InputWithTail, testing::Values(32, 128, 160));

}  // namespace
}  // namespace rtlynx
