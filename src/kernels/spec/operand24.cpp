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
  operand24_bytes(extent.tokens, extent.channels);  // throws before anything below overflows
  check_channels(op, extent.channels, 16);
  check_data(op, "metadata", metadata, extent.tokens * extent.channels / 16);
  check_data(op, "words", words, operand_metadata_words(extent.tokens, extent.channels));
}

}  // namespace

void fail_operand24_bytes(std::int64_t tokens, std::int64_t channels) {
  fail("operand24", "tokens and channels of at least 0 whose operand has less than 2^63 bytes",
       std::to_string(tokens) + " and " + std::to_string(channels));
}

std::int64_t operand_metadata_words(std::int64_t tokens, std::int64_t channels) {
  operand24_bytes(tokens, channels);  // throws before anything below overflows
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

OperandWidth width_of(DType dtype) {
  return dtype == DType::e4m3 ? OperandWidth::k8 : OperandWidth::k16;
}

void check_packed(const char* op, ConstMatrixView values, const std::uint16_t* metadata,
                  const void* operand) {
  check_matrix(op, "values", values);
  if (values.dtype == DType::f32) {
    fail(op, "values of f16, bf16 or e4m3", describe("values", values));
  }
  check_channels(op, 2 * values.columns, 16);
  check_data(op, "metadata", metadata, values.rows * values.columns / 8);
  check_data(op, "operand", operand,
             operand24_bytes(values.rows, 2 * values.columns, width_of(values.dtype)));
}

/// Places in the operand of `tokens` tokens.
struct Places {
  OperandWidth width;
  std::int64_t tokens;

  /// Eight kept values of one token, those of 16 channels from `channel` on: they lie together.
  std::int64_t values(std::int64_t token, std::int64_t channel) const {
    return packed_tile_index(token, channel, tokens, width) * packed_tile_bytes(width) +
           packed_value_offset(static_cast<int>(token % kPackedTileTokens),
                               static_cast<int>(channel % packed_tile_channels(width) / 2), width);
  }
  /// The words of 16 x 64 tile `tile` of metadata; tiles count as metadata_to_operand does,
  /// `across` of them to a slice of 16 tokens.
  std::int64_t words(std::int64_t tile, std::int64_t across) const {
    const std::int64_t slice = tile / across;
    const std::int64_t channel = tile % across * kOperandTileChannels;
    return packed_tile_index(slice * kOperandTileTokens, channel, tokens, width) *
               packed_tile_bytes(width) +
           kPackedTileValueBytes +
           channel % packed_tile_channels(width) / kOperandTileChannels * kPackedMetadataBytes +
           slice % kSlices * (kOperandTileWords * 4);
  }
};

/// Calls body(address in the operand, address in values) for every eight kept values.
template <typename Body>
void for_each_eight(ConstMatrixView values, Body body) {
  const Places places{width_of(values.dtype), values.rows};
  for (std::int64_t token = 0; token < values.rows; ++token) {
    for (std::int64_t column = 0; column < values.columns; column += 8) {
      body(places.values(token, 2 * column),
           (token * values.row_stride + column) * size_of(values.dtype));
    }
  }
}

}  // namespace

void to_operand24(ConstMatrixView values, const std::uint16_t* metadata, void* operand) {
  check_packed("to_operand24", values, metadata, operand);
  const Places places{width_of(values.dtype), values.rows};
  const std::int64_t tile_channels = packed_tile_channels(places.width);
  const std::int64_t channels = 2 * values.columns;
  auto* const bytes = static_cast<unsigned char*>(operand);
  std::fill_n(bytes, operand24_bytes(values.rows, channels, places.width),
              static_cast<unsigned char>(0));

  // Whole packed tiles of metadata: what lies beyond the last token and channel is padding too.
  const std::int64_t slices = ceil_div(values.rows, kPackedTileTokens) * kSlices;
  const std::int64_t across =
      ceil_div(channels, tile_channels) * (tile_channels / kOperandTileChannels);
  const std::vector<std::uint32_t> padding(kOperandTileWords, kOperandPaddingWord);
  for (std::int64_t tile = 0; tile < slices * across; ++tile) {
    std::memcpy(bytes + places.words(tile, across), padding.data(), kOperandTileWords * 4);
  }
  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(operand_metadata_words(values.rows, channels)));
  metadata_to_operand(places.width, metadata, values.rows, channels, words.data());
  const std::int64_t own_across = ceil_div(channels, kOperandTileChannels);
  for (std::size_t first = 0; first < words.size(); first += kOperandTileWords) {
    const auto tile = static_cast<std::int64_t>(first) / kOperandTileWords;
    std::memcpy(bytes + places.words(tile, own_across), words.data() + first,
                kOperandTileWords * 4);
  }
  const auto* const source = static_cast<const unsigned char*>(values.data);
  for_each_eight(values, [&](std::int64_t there, std::int64_t here) {
    std::memcpy(bytes + there, source + here, static_cast<std::size_t>(size_of(values.dtype)) * 8);
  });
}

void from_operand24(const void* operand, MatrixView values, std::uint16_t* metadata) {
  check_packed("from_operand24", values, metadata, operand);
  const Places places{width_of(values.dtype), values.rows};
  const std::int64_t channels = 2 * values.columns;
  const std::int64_t across = ceil_div(channels, kOperandTileChannels);
  const auto* const bytes = static_cast<const unsigned char*>(operand);

  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(operand_metadata_words(values.rows, channels)));
  for (std::size_t first = 0; first < words.size(); first += kOperandTileWords) {
    const auto tile = static_cast<std::int64_t>(first) / kOperandTileWords;
    std::memcpy(words.data() + first, bytes + places.words(tile, across), kOperandTileWords * 4);
  }
  metadata_from_operand(places.width, words.data(), values.rows, channels, metadata);
  auto* const target = static_cast<unsigned char*>(values.data);
  for_each_eight(values, [&](std::int64_t there, std::int64_t here) {
    std::memcpy(target + here, bytes + there, static_cast<std::size_t>(size_of(values.dtype)) * 8);
  });
}

}  // namespace rtlynx
