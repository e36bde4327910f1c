// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/operand24.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
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
  const CompressedMatrix<float> compressed(x);
  TestMatrix<float> kept(kTokens, kChannels);
  expand24(compressed.values.view(), compressed.metadata.data(), kept.view());
  const auto words = to_operand(mma.width, compressed.metadata, kTokens, kChannels);

  constexpr std::int64_t kTilesAcross = 3;  // of 64 channels
  for (std::int64_t row = 0; row < kTokens; row += kOperandTileTokens) {
    std::array<std::array<float, 8>, 16> d{};
    for (std::int64_t k = 0; k < kChannels; k += mma.channels) {
      const std::int64_t tile = row / kOperandTileTokens * kTilesAcross + k / kOperandTileChannels;
      const auto selector = static_cast<int>(k % kOperandTileChannels / mma.channels);
      mma_sp(
          mma, load_fragment(mma, compressed.values, row, k / 2),
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

constexpr std::array<std::pair<std::int64_t, std::int64_t>, 9> kPackedShapes{
    {{1, 16}, {16, 64}, {17, 80}, {64, 64}, {65, 128}, {100, 48}, {130, 208}, {0, 64}, {5, 0}}};

// The operand of `compressed`, its bytes filled beforehand with what must not stay.
template <typename T>
std::vector<std::uint8_t> to_packed_tiles(const CompressedMatrix<T>& compressed) {
  const TestMatrix<T>& values = compressed.values;
  std::vector<std::uint8_t> operand(
      static_cast<std::size_t>(operand24_bytes(values.rows, 2 * values.columns)), 0xa5);
  to_operand24(values.view(), compressed.metadata.data(), operand.data());
  return operand;
}

template <typename T>
T read_at(const std::vector<std::uint8_t>& bytes, std::int64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
class PackedTilesTest : public ::testing::Test {};
using PackedTypes = ::testing::Types<Half, BFloat16>;
TYPED_TEST_SUITE(PackedTilesTest, PackedTypes);

TYPED_TEST(PackedTilesTest, ConversionIsUndoneExactly) {
  for (const auto& [tokens, channels] : kPackedShapes) {
    const CompressedMatrix compressed(random_bits_matrix<TypeParam>(tokens, channels, 31));
    const auto operand = to_packed_tiles(compressed);
    TestMatrix<TypeParam> values(tokens, channels / 2);
    std::vector<std::uint16_t> metadata(compressed.metadata.size(), 0xffff);
    from_operand24(operand.data(), values.view(), metadata.data());
    EXPECT_EQ(all_bits(values), all_bits(compressed.values)) << tokens << " x " << channels;
    EXPECT_EQ(metadata, compressed.metadata) << tokens << " x " << channels;
    EXPECT_TRUE(values.gaps_untouched());
  }
}

TYPED_TEST(PackedTilesTest, ValuesLieAtTheirOffsetsAndPaddingIsZero) {
  for (const auto& [tokens, channels] : kPackedShapes) {
    const CompressedMatrix compressed(random_bits_matrix<TypeParam>(tokens, channels, 32));
    const auto operand = to_packed_tiles(compressed);
    const std::int64_t tiles_across = (channels + 63) / 64;
    const std::int64_t tiles_down = (tokens + 63) / 64;
    for (std::int64_t row = 0; row < 64 * tiles_down; ++row) {
      for (std::int64_t column = 0; column < 32 * tiles_across; ++column) {
        const std::int64_t tile = column / 32 * tiles_down + row / 64;
        const int place =
            packed_value_offset(static_cast<int>(row % 64), static_cast<int>(column % 32));
        const bool inside = row < tokens && column < channels / 2;
        ASSERT_EQ(read_at<std::uint16_t>(operand, tile * 4608 + place),
                  inside ? bits_of(compressed.values.at(row, column)) : 0)
            << row << ", " << column << " of " << tokens << " x " << channels;
      }
    }
  }
}

TYPED_TEST(PackedTilesTest, MetadataIsThatOfMetadataToOperand) {
  for (const auto& [tokens, channels] : kPackedShapes) {
    const CompressedMatrix compressed(random_bits_matrix<TypeParam>(tokens, channels, 33));
    const auto operand = to_packed_tiles(compressed);
    const auto words = to_operand(OperandWidth::k16, compressed.metadata, tokens, channels);
    const std::int64_t tiles_across = (channels + 63) / 64;
    const std::int64_t slices = 4 * ((tokens + 63) / 64);
    for (std::int64_t index = 0; index < slices * tiles_across * 32; ++index) {
      const std::int64_t slice = index / 32 / tiles_across;
      const std::int64_t tile = index / 32 % tiles_across * (slices / 4) + slice / 4;
      const std::int64_t offset = tile * 4608 + 4096 + slice % 4 * 128 + index % 32 * 4;
      const bool given = index < static_cast<std::int64_t>(words.size());
      ASSERT_EQ(read_at<std::uint32_t>(operand, offset),
                given ? words[static_cast<std::size_t>(index)] : kOperandPaddingWord)
          << "word " << index << " of " << tokens << " x " << channels;
    }
  }
}

TEST(PackedTiles, OffsetsAreAPermutationWithWholeChunks) {
  std::set<int> seen;
  for (int token = 0; token < 64; ++token) {
    for (int column = 0; column < 32; ++column) {
      const int offset = packed_value_offset(token, column);
      EXPECT_EQ(offset / 64, token);  // a row stays in its 64 bytes
      EXPECT_EQ(offset % 16, 2 * (column % 8));
      seen.insert(offset);
    }
  }
  EXPECT_EQ(seen.size(), 2048u);
  EXPECT_EQ(*seen.rbegin(), 4094);
}

// The swizzle exists so that the same chunk of 8 successive rows lies in all 32 banks.
TEST(PackedTiles, AChunkOfEightRowsTouchesEveryBankOnce) {
  for (int first = 0; first < 64; first += 8) {
    for (int chunk = 0; chunk < 4; ++chunk) {
      std::set<int> banks_of_four;
      for (int row = first; row < first + 8; ++row) {
        banks_of_four.insert(packed_value_offset(row, 8 * chunk) % 128 / 16);
      }
      EXPECT_EQ(banks_of_four.size(), 8u);
    }
  }
}

TEST(PackedTiles, BytesCountWholeTiles) {
  EXPECT_EQ(operand24_bytes(64, 64), 4608);
  EXPECT_EQ(operand24_bytes(65, 80), 4 * 4608);
  EXPECT_EQ(operand24_bytes(0, 64), 0);
  static_assert(operand24_bytes(64, 128) == 2 * 4608);
}

TEST(PackedTiles, BytesThatDoNotFitAreAnError) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(operand24_bytes(kLargest, 0), 0);
  EXPECT_EQ(operand24_bytes(std::int64_t{1} << 30, std::int64_t{1} << 30),
            (std::int64_t{1} << 48) * 4608);
  EXPECT_THROW(operand24_bytes(std::int64_t{1} << 62, std::int64_t{1} << 40), Error);
  EXPECT_THROW(operand24_bytes(kLargest, kLargest), Error);
  EXPECT_THROW(operand24_bytes(-1, 64), Error);
  EXPECT_THROW(operand_metadata_words(kLargest, kLargest), Error);
}

TEST(PackedTiles, ErrorsNameWhatArrived) {
  std::uint16_t metadata = 0;
  std::vector<std::uint8_t> operand(4608);
  TestMatrix<float> wide(1, 8);
  TestMatrix<Half> ragged(1, 12);
  TestMatrix<Half> values(1, 8);
  EXPECT_THAT([&] { to_operand24(wide.view(), &metadata, operand.data()); },
              ThrowsMessage<Error>("to_operand24: required values of f16, bf16 or e4m3, "
                                   "got values [1, 8] f32"));
  EXPECT_THAT([&] { from_operand24(operand.data(), ragged.view(), &metadata); },
              ThrowsMessage<Error>("from_operand24: required channels divisible by 16, got 24"));
  EXPECT_THAT([&] { to_operand24(values.view(), nullptr, operand.data()); },
              ThrowsMessage<Error>("to_operand24: required data for metadata, "
                                   "got a null pointer with 1 elements"));
  EXPECT_THAT([&] { from_operand24(nullptr, values.view(), &metadata); },
              ThrowsMessage<Error>("from_operand24: required data for operand, "
                                   "got a null pointer with 4608 elements"));
}

}  // namespace
}  // namespace rtlynx
