// SPDX-License-Identifier: Apache-2.0
#include "base/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <sstream>

namespace rtlynx {
namespace {

// From the C++ standard: the 10000th value of a default-seeded mt19937_64.
TEST(Rng, EngineIsTheOneOfTheStandard) {
  Rng rng(std::mt19937_64::default_seed);
  rng.engine().discard(9999);
  EXPECT_EQ(rng.engine()(), 9981545732273789042u);
}

TEST(Rng, BelowIsUniform) {
  constexpr int kDraws = 70000;
  Rng rng(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < kDraws; ++i) ++counts.at(static_cast<std::size_t>(rng.below(7)));
  // Five standard deviations of a count are 463.
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7, 463);
}

TEST(Rng, BetweenReachesBothEnds) {
  Rng rng(2);
  bool low = false, high = false;
  for (int i = 0; i < 1000; ++i) {
    const int value = rng.between(-6, 6);
    ASSERT_GE(value, -6);
    ASSERT_LE(value, 6);
    low |= value == -6;
    high |= value == 6;
  }
  EXPECT_TRUE(low && high);
}

TEST(Rng, ChanceOfZeroAndOne) {
  Rng rng(3);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(rng.chance(0.0f));
    EXPECT_TRUE(rng.chance(1.0f));
  }
}

TEST(Rng, StateCanBeSavedAndRestored) {
  Rng rng(4);
  rng.below(10);
  std::stringstream state;
  state << rng.engine();
  const float expected = rng.uniform();
  Rng restored(0);
  state >> restored.engine();
  EXPECT_EQ(restored.uniform(), expected);
}

}  // namespace
}  // namespace rtlynx
