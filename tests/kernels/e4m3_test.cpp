// SPDX-License-Identifier: Apache-2.0
// e4m3 in the specification: the type, the operand, packing and products.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "kernels/test_input.h"
#include "rtlynx/operand24.h"
#include "rtlynx/product24.h"

namespace rtlynx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void fill_row(TestMatrix<BFloat16>& matrix, std::int64_t m, float value) {
  for (std::int64_t k = 0; k < matrix.columns; ++k) matrix.at(m, k) = to_bfloat16(value);
}

E4m3 code(int bits) { return {static_cast<std::uint8_t>(bits)}; }

TEST(E4m3, ValuesAreThoseOfTheFormat) {
  for (int bits = 0; bits < 0x7f; ++bits) {
    const int exponent = bits >> 3, fraction = bits & 7;
    const float expected = exponent == 0
                               ? std::ldexp(static_cast<float>(fraction), -9)
                               : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
    EXPECT_EQ(to_float(code(bits)), expected);
    EXPECT_EQ(to_float(code(bits | 0x80)), -expected);
  }
  EXPECT_EQ(to_float(code(0x7e)), 448.0f);
  EXPECT_TRUE(std::isnan(to_float(code(0x7f))) && std::isnan(to_float(code(0xff))));
}

TEST(E4m3, RoundsToNearestEvenAndSaturates) {
  for (int bits = 0; bits < 0x7e; ++bits) {
    const float below = to_float(code(bits)), above = to_float(code(bits + 1));
    const float middle = (below + above) / 2;
    EXPECT_EQ(to_e4m3(below).bits, bits);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, 0.0f)).bits, bits);
    EXPECT_EQ(to_e4m3(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, kInfinity)).bits, bits + 1);
    EXPECT_EQ(to_e4m3(-below).bits, bits | 0x80);
  }
  for (const float large : {448.0f, 449.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(to_e4m3(large).bits, 0x7e);
    EXPECT_EQ(to_e4m3(-large).bits, 0xfe);
  }
  EXPECT_TRUE(std::isnan(to_float(to_e4m3(kNan))));
}

/// An input packed to e4m3.
struct PackedCodes {
  PackedCodes(const TestInput<BFloat16>& input, float weight_unit, float gain = 1.0f)
      : tokens(input.x.rows),
        channels(input.x.columns),
        factors(static_cast<std::size_t>(tokens)),
        codes(static_cast<std::size_t>(tokens * channels / 2)),
        metadata(static_cast<std::size_t>(tokens * channels / 16)),
        scale(static_cast<std::size_t>(tokens)),
        low(tokens, input.down.rows) {
    Pack24 arguments = input.arguments();
    code_factors(arguments, gain, factors.data());
    arguments.code_factor = factors.data();
    arguments.weight_unit = weight_unit;
    pack24(arguments, view());
  }

  Packed24 view() {
    return {
        .values = contiguous(static_cast<void*>(codes.data()), DType::e4m3, tokens, channels / 2),
        .metadata = metadata.data(),
        .scale = scale.data(),
        .low = low.view()};
  }

  std::int64_t tokens, channels;
  std::vector<float> factors;
  std::vector<E4m3> codes;
  std::vector<std::uint16_t> metadata;
  std::vector<float> scale;
  TestMatrix<BFloat16> low;
};

constexpr Producer kProducers[] = {Producer::none, Producer::gelu, Producer::swiglu,
                                   Producer::norm};

/// A norm's moments are those of its input: only then is its bound one.
TestInput<BFloat16> input_of(Producer producer, std::int64_t tokens, std::int64_t channels) {
  TestInput<BFloat16> input = random_input<BFloat16>(producer, tokens, channels);
  for (std::int64_t m = 0; producer == Producer::norm && m < tokens; ++m) {
    double sum = 0.0, squares = 0.0;
    for (std::int64_t k = 0; k < channels; ++k) sum += input.x.value(m, k);
    const double mean = sum / static_cast<double>(channels);
    for (std::int64_t k = 0; k < channels; ++k) squares += std::pow(input.x.value(m, k) - mean, 2);
    input.moments[static_cast<std::size_t>(2 * m)] = static_cast<float>(mean);
    input.moments[static_cast<std::size_t>(2 * m + 1)] =
        static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(channels) + 1e-6));
  }
  return input;
}

TEST(E4m3Pack, FactorsArePowersOfTwoThatKeepEveryElementInRange) {
  for (const Producer producer : kProducers) {
    TestInput<BFloat16> input = input_of(producer, 7, 128);
    // One channel has all of the last row.
    for (std::int64_t k = 1; k < 128; ++k) input.x.at(6, k) = to_bfloat16(0.0f);
    input.x.at(6, 0) = to_bfloat16(3e4f);
    if (producer == Producer::norm) {
      input.moments[12] = 3e4f / 128;
      input.moments[13] = 1.0f / (3e4f / std::sqrt(128.0f));
    }
    const PackedCodes packed(input, 1.0f);
    const TestMatrix<BFloat16> z = input.produced();
    for (std::int64_t m = 0; m < packed.tokens; ++m) {
      const float factor = packed.factors[static_cast<std::size_t>(m)];
      EXPECT_EQ(std::bit_cast<std::uint32_t>(factor) & 0x807fffffu, 0u) << factor;
      for (std::int64_t k = 0; k < packed.channels; ++k) {
        EXPECT_LE(std::fabs(z.value(m, k)) * factor, 448.0f);
      }
    }
  }
}

// Without a producer the bound is the largest element: the factor is the largest power of two.
TEST(E4m3Pack, TheFactorOfAPlainRowIsTight) {
  TestInput<BFloat16> input{.x = normal_matrix<BFloat16>(9, 64, 3, 5.0f)};
  const PackedCodes packed(input, 1.0f);
  for (std::int64_t m = 0; m < 9; ++m) {
    float largest = 0.0f;
    for (std::int64_t k = 0; k < 64; ++k) {
      largest = std::max(largest, std::fabs(input.x.value(m, k)));
    }
    EXPECT_GT(2.0f * packed.factors[static_cast<std::size_t>(m)] * largest, 448.0f);
  }
}

TEST(E4m3Pack, TransformsWidenTheBound) {
  TestInput<BFloat16> input = input_of(Producer::none, 3, 64);
  // All of a block goes to its first output: the worst that gain 1 can do.
  for (int output = 0; output < 64; ++output) {
    for (int k = 0; k < 64; ++k) {
      input.transform.push_back(to_bfloat16(output % 16 == 0 ? 0.25f : 0.0f));
    }
  }
  input.transform_block = 16;
  input.transform.resize(4 * 16 * 16);
  fill_row(input.x, 0, 7.0f);
  const PackedCodes packed(input, 1.0f);
  const TestMatrix<BFloat16> z = input.produced();
  for (std::int64_t m = 0; m < 3; ++m) {
    for (std::int64_t k = 0; k < 64; ++k) {
      EXPECT_LE(std::fabs(z.value(m, k)) * packed.factors[static_cast<std::size_t>(m)], 448.0f);
    }
  }
}

TEST(E4m3Pack, ZerosAndWhatIsNotFinite) {
  TestInput<BFloat16> input{.x = TestMatrix<BFloat16>(4, 16)};
  for (std::int64_t m = 0; m < 4; ++m) fill_row(input.x, m, 0.0f);
  input.x.at(1, 3) = to_bfloat16(kInfinity);
  input.x.at(2, 3) = to_bfloat16(kNan);
  input.x.at(3, 3) = to_bfloat16(1e-39f);
  PackedCodes packed(input, 0.5f);
  EXPECT_EQ(packed.factors[0], 1.0f);
  EXPECT_EQ(packed.scale[0], 0.5f);
  EXPECT_EQ(packed.factors[1], 0.0f);
  EXPECT_TRUE(std::isnan(packed.factors[2]));
  EXPECT_EQ(packed.factors[3], 0x1p126f);
  for (std::size_t row = 1; row < 3; ++row) {
    const auto kept = packed.codes.begin() + static_cast<std::ptrdiff_t>(row) * 8;
    EXPECT_TRUE(std::any_of(kept, kept + 8, [](E4m3 c) { return std::isnan(to_float(c)); }))
        << "row " << row;
  }
}

// The choice is that of the elements, and a code is the kept element, rounded.
TEST(E4m3Pack, CodesAreTheKeptValuesTimesTheFactor) {
  for (const Producer producer : kProducers) {
    TestInput<BFloat16> input = input_of(producer, 5, 96);
    input.down = normal_matrix<BFloat16>(16, 96, 31);
    const PackedCodes packed(input, 0.125f);
    const TestPacked<BFloat16> plain(input);
    EXPECT_EQ(packed.metadata, plain.metadata);
    for (std::int64_t m = 0; m < 5; ++m) {
      const auto row = static_cast<std::size_t>(m);
      const float factor = packed.factors[row];
      EXPECT_EQ(packed.scale[row], plain.scale[row] / factor * 0.125f);
      for (std::int64_t i = 0; i < 48; ++i) {
        EXPECT_EQ(packed.codes[static_cast<std::size_t>(m * 48 + i)].bits,
                  to_e4m3(plain.values.value(m, i) * factor).bits);
      }
      for (std::int64_t r = 0; r < 16; ++r) {
        const float expected = plain.low.value(m, r) * factor;  // exact: a power of two
        EXPECT_EQ(packed.low.value(m, r), expected);
      }
    }
  }
}

TEST(E4m3Pack, TheOperandIsUndoneExactly) {
  std::mt19937 random(5);
  for (const auto& [tokens, channels] :
       {std::pair<int, int>{1, 16}, {64, 128}, {65, 144}, {130, 400}}) {
    std::vector<E4m3> codes(static_cast<std::size_t>(tokens * channels / 2)), back(codes.size());
    std::vector<std::uint16_t> metadata(static_cast<std::size_t>(tokens * channels / 16)),
        metadata_back(metadata.size());
    for (E4m3& c : codes) c.bits = static_cast<std::uint8_t>(random());
    for (auto& word : metadata) word = static_cast<std::uint16_t>(random());
    const std::int64_t bytes = operand24_bytes(tokens, channels, OperandWidth::k8);
    EXPECT_EQ(bytes, (tokens + 63) / 64 * ((channels + 127) / 128) * 5120);
    std::vector<std::byte> operand(static_cast<std::size_t>(bytes));
    to_operand24(
        contiguous(static_cast<const void*>(codes.data()), DType::e4m3, tokens, channels / 2),
        metadata.data(), operand.data());
    from_operand24(operand.data(),
                   contiguous(static_cast<void*>(back.data()), DType::e4m3, tokens, channels / 2),
                   metadata_back.data());
    EXPECT_TRUE(std::equal(codes.begin(), codes.end(), back.begin(),
                           [](E4m3 a, E4m3 b) { return a.bits == b.bits; }));
    EXPECT_EQ(metadata_back, metadata);
  }
}

TEST(E4m3Product, IsThatOfTheCodesTimesTheScale) {
  TestInput<BFloat16> input = input_of(Producer::gelu, 6, 64);
  input.down = normal_matrix<BFloat16>(16, 64, 32);
  PackedCodes packed(input, 0.25f);
  const TestMatrix<BFloat16> up = normal_matrix<BFloat16>(24, 16, 33);
  const TestMatrix<float> drawn = normal_matrix<float>(24, 64, 34, 20.0f);
  std::vector<E4m3> weight;
  for (std::int64_t n = 0; n < 24; ++n) {
    for (std::int64_t k = 0; k < 64; ++k) weight.push_back(to_e4m3(drawn.value(n, k)));
  }
  TestMatrix<BFloat16> y(6, 24);
  const Product24 product{
      .weight = contiguous(static_cast<const void*>(weight.data()), DType::e4m3, 24, 64),
      .up = up.view(),
      .y = y.view()};
  product24(packed.view(), {&product, 1});
  for (std::int64_t m = 0; m < 6; ++m) {
    for (std::int64_t n = 0; n < 24; ++n) {
      double sum = 0.0, size = 0.0;
      const auto add = [&](double a, double b) { sum += a * b, size += std::fabs(a * b); };
      for (std::int64_t i = 0; i < 32; ++i) {
        const int nibble =
            packed.metadata[static_cast<std::size_t>(m * 4 + i / 8)] >> (i % 8 / 2 * 4);
        const std::int64_t channel = i / 2 * 4 + (nibble >> (i % 2 * 2) & 3);
        add(to_float(packed.codes[static_cast<std::size_t>(m * 32 + i)]),
            to_float(weight[static_cast<std::size_t>(n * 64 + channel)]));
      }
      for (std::int64_t r = 0; r < 16; ++r) add(packed.low.value(m, r), up.value(n, r));
      const double scale = packed.scale[static_cast<std::size_t>(m)];
      const double rounding =
          std::fabs(scale * sum) * 0x1p-8 + std::fabs(scale) * size * 48 * 0x1p-24;
      EXPECT_NEAR(y.value(m, n), scale * sum, rounding);
    }
  }
}

}  // namespace
}  // namespace rtlynx
