// SPDX-License-Identifier: Apache-2.0
#include "models/gain.h"

#include <gtest/gtest.h>

namespace rtlynx {
namespace {

constexpr gpu::DeviceTraits kH200{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = 232448};

LayerGroup query_key_value() {
  LayerGroup group;
  group.channels = 3072;
  for (const char* const name : {"q", "k", "v"}) {
    group.layers.push_back({.name = name, .outputs = 3072, .in_paper = true});
  }
  return group;
}

TEST(GainTest, ManyTokensGainAndFewDoNot) {
  EXPECT_TRUE(gains(query_key_value(), 4096, {.rank = 64}, kH200));
  EXPECT_FALSE(gains(query_key_value(), 512, {.rank = 64}, kH200));
  EXPECT_TRUE(gains(query_key_value(), 4096, {.rank = 64, .width = OperandWidth::k8}, kH200));
}

TEST(GainTest, ARankThatIsNoMultipleCountsAsTheNextOne) {
  EXPECT_TRUE(gains(query_key_value(), 4096, {.rank = 50}, kH200));
}

TEST(GainTest, GpusThatWereNotMeasuredDoNotGain) {
  EXPECT_FALSE(gains(query_key_value(), 4096, {},
                     {.compute_capability = 80, .multiprocessors = 108, .shared_bytes = 166912}));
  EXPECT_FALSE(gains(query_key_value(), 4096, {}, {.compute_capability = 75}));
}

}  // namespace
}  // namespace rtlynx
