// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/operand24.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/select24.h"

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

}  // namespace rtlynx
