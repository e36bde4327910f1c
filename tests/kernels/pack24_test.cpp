// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/pack24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "kernels/in_double.h"
#include "kernels/test_input.h"

namespace rtlynx {
namespace {

using ::testing::Each;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename T>
std::vector<Expected> for_each_element(
    const TestMatrix<T>& x, const std::function<Expected(std::int64_t, std::int64_t)>& f) {
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < x.rows; ++m) {
    for (std::int64_t k = 0; k < x.columns; ++k) expected.push_back(f(m, k));
  }
  return expected;
}

constexpr Producer kProducers[] = {Producer::none, Producer::gelu, Producer::swiglu,
                                   Producer::norm};

template <typename T>
class Pack24Test : public ::testing::Test {};
TYPED_TEST_SUITE(Pack24Test, ElementTypes);

TYPED_TEST(Pack24Test, WithoutAProducerEveryBitStays) {
  const TestInput<TypeParam> input{.x = random_bits_matrix<TypeParam>(5, 48, 6)};
  EXPECT_EQ(all_bits(input.produced()), all_bits(input.x));
}

TYPED_TEST(Pack24Test, GeluIsTheTanhFormula) {
  const TestInput<TypeParam> input{.x = normal_matrix<TypeParam>(9, 48, 7, 4.0f),
                                   .producer = Producer::gelu};
  expect_rounded_once(input.produced(),
                      for_each_element(input.x, [&](std::int64_t m, std::int64_t k) {
                        return gelu_in_double(input.x.value(m, k));
                      }));
}

TYPED_TEST(Pack24Test, SwigluIsSiluTimesUp) {
  const TestInput<TypeParam> input{.x = normal_matrix<TypeParam>(9, 48, 8, 4.0f),
                                   .producer = Producer::swiglu,
                                   .up = normal_matrix<TypeParam>(9, 48, 9)};
  expect_rounded_once(
      input.produced(), for_each_element(input.x, [&](std::int64_t m, std::int64_t k) {
        const auto [value, slack] = silu_in_double(input.x.value(m, k));
        const double up = input.up.value(m, k);
        return Expected{value * up, (slack + kFp32 * std::fabs(value)) * std::fabs(up)};
      }));
}

// Far from zero as well, where exp overflows or vanishes.
TYPED_TEST(Pack24Test, ActivationsOfLargeAndNotFiniteElements) {
  TestInput<TypeParam> input{.x = TestMatrix<TypeParam>(1, 16), .producer = Producer::gelu};
  const std::vector<float> values = {kInfinity, -kInfinity, kNan, 0,  -0.0f, 65000, -65000, 100,
                                     -100,      -70,        -60,  90, -90,   1e-5f, -1e-5f, 128.5f};
  auto next = values.begin();
  input.x.fill([&] { return from_float<TypeParam>(*next++); });
  input.up = TestMatrix<TypeParam>(1, 16);
  input.up.fill([] { return from_float<TypeParam>(1.0f); });
  for (const Producer producer : {Producer::gelu, Producer::swiglu}) {
    input.producer = producer;
    const TestMatrix<TypeParam> z = input.produced();
    for (std::int64_t k = 0; k < 16; ++k) {
      const double x = input.x.value(0, k);
      if (std::isinf(x)) {
        EXPECT_EQ(z.value(0, k), x > 0 ? kInfinity : 0.0f);
      } else if (std::isnan(x)) {
        EXPECT_TRUE(std::isnan(z.value(0, k)));
      } else {
        const Expected expected =
            producer == Producer::gelu ? gelu_in_double(x) : silu_in_double(x);
        EXPECT_NEAR(z.value(0, k), expected.value,
                    unit_at<TypeParam>(expected.value) / 2 + expected.slack)
            << x;
      }
    }
  }
}

/// (x - mean) * rate * weight * (1 + scale) + shift, what is not there left out.
template <typename T>
std::vector<Expected> norm_in_double(const TestInput<T>& input) {
  return for_each_element(input.x, [&](std::int64_t m, std::int64_t k) {
    const double mean = input.moments[static_cast<std::size_t>(2 * m)];
    const double rate = input.moments[static_cast<std::size_t>(2 * m + 1)];
    const std::int64_t image = input.image_tokens == 0 ? 0 : m / input.image_tokens;
    double factor = rate, shift = 0.0;
    if (!input.weight.empty()) factor *= to_float(input.weight[static_cast<std::size_t>(k)]);
    if (input.modulation_scale.rows > 0) factor *= 1.0 + input.modulation_scale.value(image, k);
    if (input.modulation_shift.rows > 0) shift = input.modulation_shift.value(image, k);
    const double x = input.x.value(m, k);
    const double terms = (std::fabs(x) + std::fabs(mean)) * std::fabs(factor) + std::fabs(shift);
    return Expected{(x - mean) * factor + shift, 8 * kFp32 * terms};
  });
}

TYPED_TEST(Pack24Test, NormsTakeTheirPartsAndWhatIsGivenForTheImage) {
  const std::int64_t tokens = 5, channels = 32;
  const TestInput<TypeParam> all = random_input<TypeParam>(Producer::norm, tokens, channels);
  for (const auto& [image_tokens, images] :
       {std::pair<int, int>{0, 1}, {2, 3}, {1, 5}, {5, 1}, {100, 1}}) {
    for (int parts = 0; parts < 8; ++parts) {
      SCOPED_TRACE(std::to_string(image_tokens) + " tokens an image, parts " +
                   std::to_string(parts));
      TestInput<TypeParam> input = all;
      input.image_tokens = image_tokens;
      if (!(parts & 1)) input.weight.clear();
      input.modulation_scale = normal_matrix<TypeParam>(parts & 2 ? images : 0, channels, 10);
      input.modulation_shift = normal_matrix<TypeParam>(parts & 4 ? images : 0, channels, 11);
      expect_rounded_once(input.produced(), norm_in_double(input));
    }
  }
}

TYPED_TEST(Pack24Test, TransformsMixTheChannelsOfABlock) {
  for (const auto& [block, channels] : {std::pair<int, int>{16, 48}, {64, 128}, {128, 256}}) {
    const TestInput<TypeParam> input{
        .x = normal_matrix<TypeParam>(3, channels, 12),
        .transform = normal_vector<TypeParam>(channels * block, 13, 0.2f),
        .transform_block = block};
    expect_rounded_once(
        input.produced(), for_each_element(input.x, [&](std::int64_t m, std::int64_t output) {
          double sum = 0.0, magnitudes = 0.0;
          for (int i = 0; i < block; ++i) {
            const double x = input.x.value(m, output / block * block + i);
            const double a =
                to_float(input.transform[static_cast<std::size_t>(output * block + i)]);
            sum += x * a;
            magnitudes += std::fabs(x * a);
          }
          return Expected{sum, (block + 1) * kFp32 * magnitudes};
        }));
  }
}

TYPED_TEST(Pack24Test, ProducersAreRoundedBeforeTheTransform) {
  for (const Producer producer : kProducers) {
    auto input = random_input<TypeParam>(producer, 4, 64);
    const TestMatrix<TypeParam> produced = input.produced();
    input.transform = normal_vector<TypeParam>(64 * 16, 14, 0.3f);
    input.transform_block = 16;
    const TestInput<TypeParam> in_steps{
        .x = produced, .transform = input.transform, .transform_block = 16};
    EXPECT_EQ(all_bits(input.produced()), all_bits(in_steps.produced()));
  }
}

TYPED_TEST(Pack24Test, ATailIsTheRestOfTheChannels) {
  const auto whole = random_bits_matrix<TypeParam>(5, 176, 15);
  TestInput<TypeParam> input{.x = TestMatrix<TypeParam>(5, 128),
                             .tail = TestMatrix<TypeParam>(5, 48),
                             .down = normal_matrix<TypeParam>(3, 176, 16)};
  for (std::int64_t m = 0; m < 5; ++m) {
    for (std::int64_t k = 0; k < 176; ++k) {
      (k < 128 ? input.x.at(m, k) : input.tail.at(m, k - 128)) = whole.at(m, k);
    }
  }
  TestInput<TypeParam> joined{.x = whole, .down = input.down};
  EXPECT_EQ(all_bits(input.produced()), all_bits(whole));
  expect_same(TestPacked<TypeParam>(input), TestPacked<TypeParam>(joined));
  input.transform = joined.transform = normal_vector<TypeParam>(176 * 16, 17, 0.3f);
  input.transform_block = joined.transform_block = 16;
  expect_same(TestPacked<TypeParam>(input), TestPacked<TypeParam>(joined));
}

template <typename T>
void expect_compressed(const TestInput<T>& input) {
  const TestPacked<T> packed(input);
  const CompressedMatrix<T> expected(input.produced());
  EXPECT_EQ(all_bits(packed.values), all_bits(expected.values));
  EXPECT_EQ(packed.metadata, expected.metadata);
  EXPECT_EQ(packed.scale, expected.scale);
}

TYPED_TEST(Pack24Test, PacksWhatWasProduced) {
  for (const Producer producer : kProducers) {
    auto input = random_input<TypeParam>(producer, 6, 128);
    expect_compressed(input);
    input.transform = normal_vector<TypeParam>(128 * 64, 18, 0.1f);
    input.transform_block = 64;
    expect_compressed(input);
    input.x = random_bits_matrix<TypeParam>(6, 128, 19);
    expect_compressed(input);
  }
}

/// Its rows over s, and the input before the transform.
template <typename T>
void expect_low_of_whole_input(const TestInput<T>& input, const TestMatrix<T>& before) {
  const TestPacked<T> packed(input);
  expect_rounded_once(
      packed.low, for_each_element(packed.low, [&](std::int64_t m, std::int64_t r) {
        const double s = packed.scale[static_cast<std::size_t>(m)];
        const auto token = widened(before, m), column = widened(input.down, r);
        return Expected{dot(token, column) / s, 82 * kFp32 * dot_of_magnitudes(token, column) / s};
      }));
}

TYPED_TEST(Pack24Test, LowIsTheWholeInputTimesDownOverS) {
  for (const bool restores_norm : {true, false}) {
    TestInput<TypeParam> input = random_input<TypeParam>(Producer::gelu, 5, 80);
    input.down = normal_matrix<TypeParam>(7, 80, 20);
    input.restores_norm = restores_norm;
    const TestMatrix<TypeParam> before = input.produced();
    expect_low_of_whole_input(input, before);
    input.transform = normal_vector<TypeParam>(80 * 16, 21, 0.25f);
    input.transform_block = 16;
    expect_low_of_whole_input(input, before);
  }
}

/// Tokens of ones: s = sqrt 2, and channels 0 and 1 stay of every four.
template <typename T>
TestInput<T> ones(std::int64_t tokens) {
  TestInput<T> input{.x = TestMatrix<T>(tokens, 16), .down = TestMatrix<T>(1, 16)};
  input.x.fill([] { return from_float<T>(1.0f); });
  input.down.fill([] { return T{}; });
  return input;
}

TYPED_TEST(Pack24Test, LowIsDividedThenRoundedOnce) {
  auto input = ones<TypeParam>(1);
  input.down.at(0, 0) = from_float<TypeParam>(2048.0f);
  input.down.at(0, 3) = from_float<TypeParam>(7.0f);  // H = 2055, which rounding H would change
  const float low = TestPacked<TypeParam>(input).low.value(0, 0);
  EXPECT_EQ(low, to_float(from_float<TypeParam>(2055.0f / std::sqrt(2.0f))));
}

TYPED_TEST(Pack24Test, WithoutTheNormSIsOne) {
  auto input = ones<TypeParam>(3);
  input.down.at(0, 2) = from_float<TypeParam>(5.0f);
  const TestPacked<TypeParam> restored(input);
  EXPECT_THAT(restored.scale, Each(std::sqrt(2.0f)));
  input.restores_norm = false;
  const TestPacked<TypeParam> packed(input);
  EXPECT_THAT(packed.scale, Each(1.0f));
  EXPECT_EQ(packed.low.value(1, 0), 5.0f);
  EXPECT_EQ(all_bits(packed.values), all_bits(restored.values));
  EXPECT_EQ(packed.metadata, restored.metadata);
}

TYPED_TEST(Pack24Test, NanStaysInItsToken) {
  auto input = ones<TypeParam>(3);
  input.down.fill([] { return from_float<TypeParam>(0.5f); });
  const TestPacked<TypeParam> clean(input);
  input.x.at(1, 7) = from_float<TypeParam>(kNan);
  const TestPacked<TypeParam> packed(input);
  EXPECT_EQ(packed.scale, (std::vector<float>{clean.scale[0], 1.0f, clean.scale[2]}));
  EXPECT_TRUE(std::isnan(packed.low.value(1, 0)));
  for (const std::int64_t m : {0, 2}) {
    EXPECT_EQ(packed.low.value(m, 0), clean.low.value(m, 0));
    for (std::int64_t k = 0; k < 8; ++k) {
      EXPECT_EQ(packed.values.value(m, k), clean.values.value(m, k));
    }
  }
}

TYPED_TEST(Pack24Test, EmptyInputsAreFine) {
  EXPECT_NO_THROW(TestPacked(random_input<TypeParam>(Producer::norm, 0, 32)));
  EXPECT_THAT(TestPacked(random_input<TypeParam>(Producer::gelu, 2, 0)).scale, Each(1.0f));
}

}  // namespace
}  // namespace rtlynx
