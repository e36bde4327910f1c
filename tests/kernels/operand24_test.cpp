// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/operand24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/test_matrix.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

class Operand24Test : public ::testing::TestWithParam<OperandWidth> {};
INSTANTIATE_TEST_SUITE_P(Widths, Operand24Test,
                         ::testing::Values(OperandWidth::k8, OperandWidth::k16),
                         [](const auto& test) {
                           return test.param == OperandWidth::k8 ? "EightBit" : "SixteenBit";
                         });

TEST_P(Operand24Test, EveryGroupOfATileHasOneNibble) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane) {
    for (int nibble = 0; nibble < 8; ++nibble) {
      const TileGroup at = metadata_position(GetParam(), lane, nibble);
      EXPECT_TRUE(at.token >= 0 && at.token < 16 && at.group >= 0 && at.group < 16);
      seen.insert({at.token, at.group});
    }
  }
  EXPECT_EQ(seen.size(), 256u);
}

TEST_P(Operand24Test, EveryElementOfAFragmentHasOnePlace) {
  const int per_register = 32 / static_cast<int>(GetParam());
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane) {
    for (int reg = 0; reg < 4; ++reg) {
      for (int index = 0; index < per_register; ++index) {
        const FragmentElement at = fragment_element(GetParam(), lane, reg, index);
        EXPECT_TRUE(at.token >= 0 && at.token < 16);
        EXPECT_TRUE(at.column >= 0 && at.column < 8 * per_register);
        seen.insert({at.token, at.column});
      }
    }
  }
  EXPECT_EQ(seen.size(), 16u * 8u * static_cast<unsigned>(per_register));
}

std::vector<std::uint32_t> to_operand(OperandWidth width,
                                      const std::vector<std::uint16_t>& metadata,
                                      std::int64_t tokens, std::int64_t channels) {
  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(operand_metadata_words(tokens, channels)), 0xffffffffu);
  metadata_to_operand(width, metadata.data(), tokens, channels, words.data());
  return words;
}

TEST_P(Operand24Test, ConversionIsUndoneExactly) {
  std::mt19937 random(21);
  for (const auto& [tokens, channels] :
       {std::pair<int, int>{1, 16}, {16, 64}, {17, 80}, {64, 256}, {100, 48}, {0, 64}, {5, 0}}) {
    std::vector<std::uint16_t> metadata(static_cast<std::size_t>(tokens * channels / 16));
    for (auto& word : metadata) word = static_cast<std::uint16_t>(random());
    const auto words = to_operand(GetParam(), metadata, tokens, channels);
    std::vector<std::uint16_t> back(metadata.size(), 0xffff);
    metadata_from_operand(GetParam(), words.data(), tokens, channels, back.data());
    EXPECT_EQ(back, metadata) << tokens << " x " << channels;
  }
}

TEST_P(Operand24Test, PaddingIsThePatternOfZeros) {
  // One token of 16 channels fills 4 of the tile's 256 nibbles.
  const auto words = to_operand(GetParam(), {0xeeee}, 1, 16);
  ASSERT_EQ(words.size(), 32u);
  int padding = 0;
  int data = 0;
  for (const std::uint32_t word : words) {
    for (int shift = 0; shift < 32; shift += 4) {
      padding += (word >> shift & 0xfu) == 0x4u;
      data += (word >> shift & 0xfu) == 0xeu;
    }
  }
  EXPECT_EQ(padding, 252);
  EXPECT_EQ(data, 4);
}

TEST(Operand24, WordsCountWholeTiles) {
  EXPECT_EQ(operand_metadata_words(16, 64), 32);
  EXPECT_EQ(operand_metadata_words(17, 64), 64);
  EXPECT_EQ(operand_metadata_words(17, 80), 128);
  EXPECT_EQ(operand_metadata_words(0, 80), 0);
}

TEST(Operand24, ErrorsNameWhatArrived) {
  std::uint16_t metadata = 0;
  std::array<std::uint32_t, 32> words{};
  EXPECT_THAT(
      [&] { metadata_to_operand(OperandWidth::k16, &metadata, 1, 8, words.data()); },
      ThrowsMessage<Error>("metadata_to_operand: required channels divisible by 16, got 8"));
  EXPECT_THAT([&] { metadata_from_operand(OperandWidth::k16, nullptr, 1, 16, &metadata); },
              ThrowsMessage<Error>("metadata_from_operand: required data for words, "
                                   "got a null pointer with 32 elements"));
  EXPECT_THAT([&] { metadata_to_operand(OperandWidth::k16, &metadata, -1, 16, words.data()); },
              ThrowsMessage<Error>("metadata_to_operand: required tokens and channels that are not "
                                   "negative, got -1 and 16"));
  EXPECT_THAT(
      [&] { metadata_to_operand(static_cast<OperandWidth>(4), &metadata, 1, 16, words.data()); },
      ThrowsMessage<Error>("metadata_to_operand: required an operand width of 8 or 16 bits, "
                           "got 4"));
}

// A host model of mma.sp, written from the wording of the PTX ISA and not from operand24.h: where
// its lanes look for an element of A and for the metadata of a group.
struct Instruction {
  OperandWidth width;
  int channels;  // K of the instruction
  int elements;  // of A per lane
  int per_register;
};
constexpr Instruction kM16N8K32{OperandWidth::k16, 32, 8, 2};
constexpr Instruction kM16N8K64{OperandWidth::k8, 64, 16, 4};

using Registers = std::array<std::array<float, 16>, 32>;  // [lane][element a_i]
using Words = const std::uint32_t*;                       // [lane]

// Metadata nibble of `group` (0 .. K/4 - 1) of `row`, under sparsity selector `selector`.
unsigned metadata_nibble(const Instruction& mma, Words words, int selector, int row, int group) {
  if (mma.width == OperandWidth::k16) {
    // The selected pair of each quad: its first lane has K 0 .. 15, its second K 16 .. 31, rows
    // 0 .. 7 in the lower half-word and rows 8 .. 15 in the upper.
    const int lane = 4 * (row % 8) + 2 * selector + group / 4;
    return words[lane] >> (16 * (row / 8) + 4 * (group % 4)) & 0xfu;
  }
  // Lanes 0 and 2 of a quad have the first of two rows, lanes 1 and 3 the second; lanes 0 and 1
  // have K 0 .. 31, lanes 2 and 3 K 32 .. 63.
  const int lane = 4 * (row % 8) + row / 8 + 2 * (group / 8);
  return words[lane] >> (4 * (group % 8)) & 0xfu;
}

// d[row][n] += A B for one instruction, b(k, n) being the dense B.
template <typename B>
void mma_sp(const Instruction& mma, const Registers& a, Words words, int selector, B b,
            std::array<std::array<float, 8>, 16>& d) {
  const int quarter = mma.elements / 4;  // a_i fall into 4 runs, one per register
  for (int lane = 0; lane < 32; ++lane) {
    const int group_id = lane >> 2;
    const int thread_in_group = lane % 4;
    for (int i = 0; i < mma.elements; ++i) {
      const int run = i / quarter;
      const int row = run == 0 || run == 2 ? group_id : group_id + 8;
      // "firstcol": the run's 4 (8) columns of the uncompressed A, of which every group keeps 2.
      const int first = thread_in_group * (2 * quarter) + (run < 2 ? 0 : mma.channels / 2);
      const int column = first + i % quarter / 2 * 4;
      const unsigned nibble = metadata_nibble(mma, words, selector, row, column / 4);
      const int k = column + static_cast<int>(nibble >> (2 * (i % 2)) & 3u);
      for (int n = 0; n < 8; ++n) {
        d[static_cast<std::size_t>(row)][static_cast<std::size_t>(n)] +=
            a[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i)] * b(k, n);
      }
    }
  }
}

// Registers of the A fragment whose compressed columns start at `column`; zero outside the matrix.
Registers load_fragment(const Instruction& mma, const TestMatrix<float>& values, std::int64_t row,
                        std::int64_t column) {
  Registers a{};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < mma.elements; ++i) {
      const FragmentElement at =
          fragment_element(mma.width, lane, i / mma.per_register, i % mma.per_register);
      const std::int64_t m = row + at.token;
      const std::int64_t k = column + at.column;
      if (m < values.rows && k < values.columns) {
        a[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i)] = values.value(m, k);
      }
    }
  }
  return a;
}

// X~ B^T by the model, X and B small integers so that every sum is exact. Ragged in rows and K.
void expect_product(const Instruction& mma) {
  constexpr std::int64_t kTokens = 21;
  constexpr std::int64_t kChannels = 176;
  const auto x = integer_matrix<float>(kTokens, kChannels, 22, 9);
  const auto weight = integer_matrix<float>(8, kChannels, 23, 9);
  const PackedMatrix<float> packed(x);
  TestMatrix<float> kept(kTokens, kChannels);
  unpack24(packed.values.view(), packed.metadata.data(), kept.view());
  const auto words = to_operand(mma.width, packed.metadata, kTokens, kChannels);

  constexpr std::int64_t kTilesAcross = 3;  // of 64 channels
  for (std::int64_t row = 0; row < kTokens; row += kOperandTileTokens) {
    std::array<std::array<float, 8>, 16> d{};
    for (std::int64_t k = 0; k < kChannels; k += mma.channels) {
      const std::int64_t tile = row / kOperandTileTokens * kTilesAcross + k / kOperandTileChannels;
      const auto selector = static_cast<int>(k % kOperandTileChannels / mma.channels);
      mma_sp(
          mma, load_fragment(mma, packed.values, row, k / 2),
          words.data() + tile * kOperandTileWords, selector,
          [&](int channel, int n) {
            return k + channel < kChannels ? weight.value(n, k + channel) : 0.0f;
          },
          d);
    }
    for (std::int64_t m = row; m < std::min(row + kOperandTileTokens, kTokens); ++m) {
      for (std::int64_t n = 0; n < 8; ++n) {
        float expected = 0.0f;
        for (std::int64_t k = 0; k < kChannels; ++k) {
          expected += kept.value(m, k) * weight.value(n, k);
        }
        EXPECT_EQ(d[static_cast<std::size_t>(m - row)][static_cast<std::size_t>(n)], expected)
            << "row " << m << ", column " << n;
      }
    }
  }
}

TEST(Operand24, ModelOfMmaSpM16N8K32MultipliesRight) { expect_product(kM16N8K32); }

TEST(Operand24, ModelOfMmaSpM16N8K64MultipliesRight) { expect_product(kM16N8K64); }

}  // namespace
}  // namespace rtlynx
