// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/compress24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/naive_select.h"
#include "kernels/test_matrix.h"

namespace rtlynx {
namespace {

using ::testing::ElementsAre;
using ::testing::ThrowsMessage;

template <typename T>
TestMatrix<T> expanded(const CompressedMatrix<T>& compressed) {
  TestMatrix<T> x(compressed.values.rows, 2 * compressed.values.columns);
  expand24(compressed.values.view(), compressed.metadata.data(), x.view());
  return x;
}

// X~ by the naive selection, as bits.
template <typename T>
std::vector<BitsOf<T>> naive_kept(const TestMatrix<T>& x) {
  std::vector<BitsOf<T>> kept;
  for (std::int64_t m = 0; m < x.rows; ++m) {
    for (std::int64_t k = 0; k < x.columns; k += 4) {
      const auto stays = naive_select(&x.at(m, k));
      for (int i = 0; i < 4; ++i) {
        kept.push_back(stays[static_cast<std::size_t>(i)] ? bits_of(x.at(m, k + i)) : 0);
      }
    }
  }
  return kept;
}

// Every group of four from these: all orders and all ties, among them those of unlike bits.
template <typename T>
std::vector<T> palette() {
  const std::uint32_t one = bits_of(from_float<T>(1.0f));
  const std::uint32_t infinity = kInfinityBits<T>;
  const std::uint32_t sign = kSignBit<T>;
  std::vector<T> values;
  for (const std::uint32_t bits :
       {0u, sign, 1u, sign | 2u, one, sign | one, one + 1, infinity - 1, infinity, sign | infinity,
        infinity + 1, sign | (infinity + 5)}) {
    values.push_back(from_bits<T>(bits));
  }
  return values;
}

template <typename T>
TestMatrix<T> all_groups() {
  const std::vector<T> values = palette<T>();
  const auto count = static_cast<std::int64_t>(values.size());
  TestMatrix<T> x(count * count * count * count / 4, 16);
  std::int64_t index = 0;
  x.fill([&] {
    std::int64_t digits = index / 4;
    for (std::int64_t i = 0; i < index % 4; ++i) digits /= count;
    ++index;
    return values[static_cast<std::size_t>(digits % count)];
  });
  return x;
}

template <typename T>
class Compress24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Compress24Test, ElementTypes);

TYPED_TEST(Compress24Test, SelectsLikeASortForEveryOrderOfFour) {
  const TestMatrix<TypeParam> x = all_groups<TypeParam>();
  EXPECT_EQ(all_bits(expanded(CompressedMatrix<TypeParam>(x))), naive_kept(x));
}

TYPED_TEST(Compress24Test, RoundTripsRandomRowsAndLeavesGapsAlone) {
  for (const std::int64_t rows : {1, 5}) {
    for (const std::int64_t channels : {16, 48, 176}) {
      const auto x = random_bits_matrix<TypeParam>(rows, channels, 3);
      const CompressedMatrix<TypeParam> compressed(x);
      const TestMatrix<TypeParam> kept = expanded(compressed);
      EXPECT_EQ(all_bits(kept), naive_kept(x));
      EXPECT_TRUE(compressed.values.gaps_untouched());
      EXPECT_TRUE(kept.gaps_untouched());
    }
  }
}

TYPED_TEST(Compress24Test, CompressingWhatWasExpandedChangesNothing) {
  const CompressedMatrix<TypeParam> once(normal_matrix<TypeParam>(7, 64, 4));
  const CompressedMatrix<TypeParam> twice(expanded(once));
  EXPECT_EQ(all_bits(twice.values), all_bits(once.values));
  EXPECT_EQ(twice.metadata, once.metadata);
  EXPECT_THAT(twice.scale, ElementsAre(1, 1, 1, 1, 1, 1, 1));
}

TYPED_TEST(Compress24Test, LowestNibbleIsTheLowestGroup) {
  TestMatrix<TypeParam> x(1, 16);
  const std::vector<float> values = {9, 1, 2,  -8,  // 0 and 3: 0xC
                                     0, 0, 0,  0,   // 0 and 1: 0x4
                                     1, 1, -5, 6,   // 2 and 3: 0xE
                                     1, 3, -3, 2};  // 1 and 2: 0x9
  auto next = values.begin();
  x.fill([&] { return from_float<TypeParam>(*next++); });
  const CompressedMatrix<TypeParam> compressed(x);
  EXPECT_THAT(compressed.metadata, ElementsAre(0x9e4c));
  std::vector<float> kept;
  for (std::int64_t k = 0; k < 8; ++k) kept.push_back(compressed.values.value(0, k));
  EXPECT_THAT(kept, ElementsAre(9, -8, 0, 0, -5, 6, 3, -3));
}

TYPED_TEST(Compress24Test, EmptyMatricesAreFine) {
  EXPECT_NO_THROW(CompressedMatrix<TypeParam>(TestMatrix<TypeParam>(0, 16)));
  const CompressedMatrix<TypeParam> no_channels(TestMatrix<TypeParam>(2, 0));
  EXPECT_THAT(no_channels.scale, ElementsAre(1, 1));
}

TEST(Expand24, AcceptsTheSixPatternsAndNamesTheRowAndGroupOfOthers) {
  const std::string digits = "0123456789ABCDEF";
  for (unsigned nibble = 0; nibble < 16; ++nibble) {
    std::vector<float> values(2 * 16, 1.0f);
    std::vector<std::uint16_t> metadata(2 * 2, 0x4444);
    metadata[3] = static_cast<std::uint16_t>(0x4044 | nibble << 8);  // row 1, group 6
    std::vector<float> x(2 * 32);
    const auto expand = [&] {
      expand24(contiguous(values.data(), DType::f32, 2, 16), metadata.data(),
               contiguous(x.data(), DType::f32, 2, 32));
    };
    if (std::string("489CDE").find(digits[nibble]) != std::string::npos) {
      EXPECT_NO_THROW(expand()) << nibble;
    } else {
      EXPECT_THAT(expand, ThrowsMessage<Error>("expand24: required nibbles 4, 8, C, 9, D or E, "
                                               "got " +
                                               digits.substr(nibble, 1) + " at row 1, group 6"));
    }
  }
}

// One way after another to call compress24 wrongly.
struct Compress24Call {
  std::vector<float> x = std::vector<float>(2 * 32);
  std::vector<float> values = std::vector<float>(2 * 16);
  std::vector<std::uint16_t> metadata = std::vector<std::uint16_t>(2 * 2);
  ConstMatrixView x_view = contiguous(x.data(), DType::f32, 2, 32);
  Compressed24 out = {.values = contiguous(values.data(), DType::f32, 2, 16),
                      .metadata = metadata.data()};

  void operator()() const { compress24(x_view, out); }
};

TEST(Compress24Errors, AValidCallWithoutScalePasses) { EXPECT_NO_THROW(Compress24Call()()); }

TEST(Compress24Errors, ChannelsNotDivisibleBy16) {
  Compress24Call call;
  call.x_view.columns = 20;
  EXPECT_THAT(call, ThrowsMessage<Error>("compress24: required channels divisible by 16, got 20"));
}

TEST(Compress24Errors, WrongShapeOrTypeOfTheValues) {
  Compress24Call call;
  call.out.values.columns = 8;
  EXPECT_THAT(
      call, ThrowsMessage<Error>("compress24: required values [2, 16] f32, got values [2, 8] f32"));
  call.out.values.columns = 16;
  call.out.values.dtype = DType::bf16;
  EXPECT_THAT(call, ThrowsMessage<Error>(
                        "compress24: required values [2, 16] f32, got values [2, 16] bf16"));
}

TEST(Compress24Errors, NullPointers) {
  Compress24Call call;
  call.out.metadata = nullptr;
  EXPECT_THAT(call, ThrowsMessage<Error>("compress24: required data for metadata, "
                                         "got a null pointer with 4 elements"));
  call.out.values.data = nullptr;
  EXPECT_THAT(call, ThrowsMessage<Error>("compress24: required data for values, "
                                         "got a null pointer with 32 elements"));
  call.x_view.data = nullptr;
  EXPECT_THAT(call, ThrowsMessage<Error>("compress24: required data for X, "
                                         "got a null pointer with 64 elements"));
}

}  // namespace
}  // namespace rtlynx
