// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/operand24.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "kernels/spec/matrix.h"
#include "kernels/spec/select24.h"

namespace rtlynx {
namespace {

constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

struct Extent {
  std::int64_t tokens;
  std::int64_t channels;
};

// Calls body(word, nibble, token, group) for every nibble that lies inside tokens x channels.
template <typename Body>
void for_each_nibble(OperandWidth width, Extent extent, Body body) {
  const std::int64_t tiles_across = ceil_div(extent.channels, kOperandTileChannels);
  const std::int64_t words = operand_metadata_words(extent.tokens, extent.channels);
  for (std::int64_t word = 0; word < words; ++word) {
    const std::int64_t tile = word / kOperandTileWords;
    for (int nibble = 0; nibble < kOperandWordNibbles; ++nibble) {
      const TileGroup inside =
          metadata_position(width, static_cast<int>(word % kOperandTileWords), nibble);
      const std::int64_t token = tile / tiles_across * kOperandTileTokens + inside.token;
      const std::int64_t group =
          tile % tiles_across * (kOperandTileChannels / kGroup) + inside.group;
      if (token < extent.tokens && group < extent.channels / kGroup) {
        body(word, nibble, token, group);
      }
    }
  }
}

void check_operand(const char* op, OperandWidth width, const std::uint16_t* metadata, Extent extent,
                   const std::uint32_t* words) {
  if (width != OperandWidth::k8 && width != OperandWidth::k16) {
    fail(op, "an operand width of 8 or 16 bits", std::to_string(static_cast<int>(width)));
  }
  if (extent.tokens < 0 || extent.channels < 0) {
    fail(op, "tokens and channels that are not negative",
         std::to_string(extent.tokens) + " and " + std::to_string(extent.channels));
  }
  check_channels(op, extent.channels, 16);
  check_data(op, "metadata", metadata, extent.tokens * extent.channels / 16);
  check_data(op, "words", words, operand_metadata_words(extent.tokens, extent.channels));
}

}  // namespace

std::int64_t operand_metadata_words(std::int64_t tokens, std::int64_t channels) {
  const std::int64_t tiles_across = ceil_div(channels, kOperandTileChannels);
  return ceil_div(tokens, kOperandTileTokens) * tiles_across * kOperandTileWords;
}

void metadata_to_operand(OperandWidth width, const std::uint16_t* metadata, std::int64_t tokens,
                         std::int64_t channels, std::uint32_t* words) {
  check_operand("metadata_to_operand", width, metadata, {tokens, channels}, words);
  std::fill_n(words, operand_metadata_words(tokens, channels), kOperandPaddingWord);
  for_each_nibble(width, {tokens, channels}, [&](auto word, int nibble, auto token, auto group) {
    const std::uint32_t value = nibble_at(metadata + token * (channels / 16), group);
    words[word] = (words[word] & ~(0xfu << (4 * nibble))) | value << (4 * nibble);
  });
}

void metadata_from_operand(OperandWidth width, const std::uint32_t* words, std::int64_t tokens,
                           std::int64_t channels, std::uint16_t* metadata) {
  check_operand("metadata_from_operand", width, metadata, {tokens, channels}, words);
  std::fill_n(metadata, tokens * (channels / 16), std::uint16_t{0});
  for_each_nibble(width, {tokens, channels}, [&](auto word, int nibble, auto token, auto group) {
    const std::uint32_t value = words[word] >> (4 * nibble) & 0xfu;
    metadata[token * (channels / 16) + group / 4] |=
        static_cast<std::uint16_t>(value << (4 * (group % 4)));
  });
}

namespace {

constexpr int kSlices = kPackedTileTokens / kOperandTileTokens;  // of metadata in a packed tile

void check_packed(const char* op, ConstMatrixView values, const std::uint16_t* metadata,
                  const void* operand) {
  check_matrix(op, "values", values);
  if (size_of(values.dtype) != 2) {
    fail(op, "values of f16 or bf16", describe("values", values));
  }
  check_channels(op, 2 * values.columns, 16);
  check_data(op, "metadata", metadata, values.rows * values.columns / 8);
  check_data(op, "operand", operand, operand24_bytes(values.rows, 2 * values.columns));
}

/// Where eight kept values of one token lie, those of 16 channels from `channel` on: one chunk of
/// 16 bytes.
constexpr std::int64_t chunk_offset(std::int64_t token, std::int64_t channel, std::int64_t tokens) {
  return packed_tile_index(token, channel, tokens) * kPackedTileBytes +
         packed_value_offset(static_cast<int>(token % kPackedTileTokens),
                             static_cast<int>(channel % kPackedTileChannels / 2));
}

/// Where the words of 16 x 64 tile `tile` of metadata lie; tiles count as metadata_to_operand does,
/// `across` of them to a slice of 16 tokens.
constexpr std::int64_t words_offset(std::int64_t tile, std::int64_t across, std::int64_t tokens) {
  const std::int64_t slice = tile / across;
  const std::int64_t channel = tile % across * kPackedTileChannels;
  return packed_tile_index(slice * kOperandTileTokens, channel, tokens) * kPackedTileBytes +
         kPackedTileValueBytes + slice % kSlices * (kOperandTileWords * 4);
}

}  // namespace

void to_operand24(ConstMatrixView values, const std::uint16_t* metadata, void* operand) {
  check_packed("to_operand24", values, metadata, operand);
  const std::int64_t channels = 2 * values.columns;
  const std::int64_t across = ceil_div(channels, kPackedTileChannels);
  auto* const bytes = static_cast<unsigned char*>(operand);
  std::fill_n(bytes, operand24_bytes(values.rows, channels), static_cast<unsigned char>(0));

  // Whole packed tiles of metadata: the slices beyond the last token are padding too.
  const std::int64_t padded = ceil_div(values.rows, kPackedTileTokens) * kPackedTileTokens;
  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(operand_metadata_words(padded, channels)), kOperandPaddingWord);
  metadata_to_operand(OperandWidth::k16, metadata, values.rows, channels, words.data());
  for (std::int64_t tile = 0; tile < padded / kOperandTileTokens * across; ++tile) {
    std::memcpy(bytes + words_offset(tile, across, values.rows),
                words.data() + tile * kOperandTileWords, kOperandTileWords * 4);
  }
  for (std::int64_t token = 0; token < values.rows; ++token) {
    for (std::int64_t column = 0; column < values.columns; column += 8) {
      std::memcpy(bytes + chunk_offset(token, 2 * column, values.rows),
                  row_of<std::uint16_t>(values, token) + column, 16);
    }
  }
}

void from_operand24(const void* operand, MatrixView values, std::uint16_t* metadata) {
  check_packed("from_operand24", values, metadata, operand);
  const std::int64_t channels = 2 * values.columns;
  const std::int64_t across = ceil_div(channels, kPackedTileChannels);
  const auto* const bytes = static_cast<const unsigned char*>(operand);

  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(operand_metadata_words(values.rows, channels)));
  for (std::size_t first = 0; first < words.size(); first += kOperandTileWords) {
    const auto tile = static_cast<std::int64_t>(first) / kOperandTileWords;
    std::memcpy(words.data() + first, bytes + words_offset(tile, across, values.rows),
                kOperandTileWords * 4);
  }
  metadata_from_operand(OperandWidth::k16, words.data(), values.rows, channels, metadata);
  for (std::int64_t token = 0; token < values.rows; ++token) {
    for (std::int64_t column = 0; column < values.columns; column += 8) {
      std::memcpy(row_of<std::uint16_t>(values, token) + column,
                  bytes + chunk_offset(token, 2 * column, values.rows), 16);
    }
  }
}

}  // namespace rtlynx
