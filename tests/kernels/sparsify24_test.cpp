// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/spec/select24.h"
#include "kernels/test_matrix.h"
#include "rtlynx/compress24.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

// X~ by the specification, for any K divisible by 4.
template <typename T>
std::vector<BitsOf<T>> specified(const TestMatrix<T>& x) {
  std::vector<BitsOf<T>> kept;
  for (std::int64_t m = 0; m < x.rows; ++m) {
    for (std::int64_t k = 0; k < x.columns; ++k) {
      const Pair24 pair = select24(&x.at(m, k / 4 * 4));
      const bool stays = k % 4 == pair.first || k % 4 == pair.second;
      kept.push_back(stays ? bits_of(x.at(m, k)) : 0);
    }
  }
  return kept;
}

template <typename T>
void expect_specified(const TestMatrix<T>& x) {
  TestMatrix<T> kept(x.rows, x.columns);
  sparsify24(x.view(), kept.view(), nullptr);
  EXPECT_EQ(all_bits(kept), specified(x)) << x.rows << " x " << x.columns;
  EXPECT_TRUE(kept.gaps_untouched());
}

template <typename T>
class Sparsify24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Sparsify24Test, ElementTypes);

TYPED_TEST(Sparsify24Test, HasTheBitsOfTheSpecification) {
  for (const std::int64_t channels : {0, 4, 12, 60, 64, 68, 128, 252, 1000, 3072}) {
    expect_specified(normal_matrix<TypeParam>(3, channels, 11));
    expect_specified(random_bits_matrix<TypeParam>(3, channels, 12));
    expect_specified(integer_matrix<TypeParam>(3, channels, 13, 2));  // ties everywhere
  }
}

// Neighbouring bit patterns around zero, one, infinity and the first NaN, of both signs.
TYPED_TEST(Sparsify24Test, HasTheBitsOfTheSpecificationOnNearTies) {
  const std::uint32_t one = bits_of(from_float<TypeParam>(1.0f));
  for (const std::uint32_t centre : {2u, one, kInfinityBits<TypeParam>}) {
    TestMatrix<TypeParam> x(50, 64);
    std::mt19937 random(14);
    x.fill([&] {
      const auto draw = static_cast<std::uint32_t>(random());
      const std::uint32_t sign = draw & 1u ? kSignBit<TypeParam> : 0u;
      return from_bits<TypeParam>(sign | (centre + (draw >> 8) % 5 - 2));
    });
    expect_specified(x);
  }
}

TYPED_TEST(Sparsify24Test, RowsDoNotDependOnTheSlice) {
  const auto x = random_bits_matrix<TypeParam>(7, 132, 15);
  TestMatrix<TypeParam> whole(7, 132);
  TestMatrix<TypeParam> sliced(7, 132);
  std::vector<float> whole_scale(7);
  std::vector<float> sliced_scale(7);
  sparsify24(x.view(), whole.view(), whole_scale.data());
  for (const auto& [first, count] : {std::pair<int, int>{0, 3}, {3, 1}, {4, 0}, {4, 3}}) {
    sparsify24(slice_rows(x.view(), first, count), slice_rows(sliced.view(), first, count),
               sliced_scale.data() + first);
  }
  EXPECT_EQ(all_bits(sliced), all_bits(whole));
  EXPECT_EQ(sliced_scale, whole_scale);
}

TEST(Sparsify24Errors, NameWhatArrived) {
  std::vector<float> x(2 * 8);
  std::vector<float> kept(2 * 8);
  EXPECT_THAT(
      [&] {
        sparsify24(contiguous(x.data(), DType::f32, 2, 6),
                   contiguous(kept.data(), DType::f32, 2, 6), nullptr);
      },
      ThrowsMessage<Error>("sparsify24: required channels divisible by 4, got 6"));
  EXPECT_THAT(
      [&] {
        sparsify24(contiguous(x.data(), DType::f32, 2, 8),
                   contiguous(kept.data(), DType::f16, 2, 8), nullptr);
      },
      ThrowsMessage<Error>("sparsify24: required X~ [2, 8] f32, got X~ [2, 8] f16"));
}

}  // namespace
}  // namespace rtlynx
