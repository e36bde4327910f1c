// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "rtlynx/matrix.h"

/// Sparse Tensor Core operand order: which lane of a warp holds which part of a compressed A.
///
/// Source: PTX ISA, matrix fragments for sparse mma.m16n8k32 and m16n8k64, and the metadata figures
/// of wgmma.mma_async.sp. mma.sp m16n8k32 (16-bit types) and m16n8k64 (8-bit) take these orders;
/// so do wgmma.sp m64nNk32 and m64nNk64, where warp w of the warpgroup holds rows 16w .. 16w + 15.
/// Seen on an H200: all of them, but the 8-bit order of mma.sp.
namespace rtlynx {

/// Element width of the instruction's A and B.
enum class OperandWidth : std::uint8_t { k8 = 8, k16 = 16 };

/// Metadata is cut into tiles of 16 tokens x 64 channels; each lane holds one 32-bit word of one.
/// 16-bit types need two instructions (k32) per tile: sparsity selector 0 for channels 0-31, which
/// lanes 0 and 1 of each quad supply, and selector 1 for channels 32-63, from lanes 2 and 3.
/// 8-bit types need one (k64), selector 0.
inline constexpr int kOperandTileTokens = 16;
inline constexpr int kOperandTileChannels = 64;
inline constexpr int kOperandTileWords = 32;
inline constexpr int kOperandWordNibbles = 8;
inline constexpr std::uint32_t kOperandPaddingWord = 0x44444444u;

/// A group of 4 channels inside a tile.
struct TileGroup {
  int token;  // 0 .. 15
  int group;  // 0 .. 15
  friend constexpr bool operator==(TileGroup, TileGroup) = default;
};

/// What nibble 0 .. 7 (lowest first) of the word of lane 0 .. 31 describes.
constexpr TileGroup metadata_position(OperandWidth width, int lane, int nibble) {
  if (width == OperandWidth::k16) {
    return {lane / 4 + 8 * (nibble / 4), 4 * (lane % 4) + nibble % 4};
  }
  return {lane / 4 + 8 * (lane % 2), 8 * (lane / 2 % 2) + nibble};
}

/// An element of the compressed A of one instruction.
struct FragmentElement {
  int token;   // 0 .. 15
  int column;  // compressed: 0 .. 15 for 16-bit types (k32), 0 .. 31 for 8-bit types (k64)
  friend constexpr bool operator==(FragmentElement, FragmentElement) = default;
};

/// Element `index` (lowest bits first: 0 .. 1 for 16-bit types, 0 .. 3 for 8-bit) of A register
/// `reg` 0 .. 3 of lane 0 .. 31. The compressed tile is laid out like a dense one of half the K.
constexpr FragmentElement fragment_element(OperandWidth width, int lane, int reg, int index) {
  const int per_register = 32 / static_cast<int>(width);
  return {lane / 4 + 8 * (reg % 2), per_register * (lane % 4 + 4 * (reg / 2)) + index};
}

/// What the GEMM kernels read: values and metadata of 64 tokens x 64 channels of 16-bit elements in
/// one contiguous tile, in which every lane finds its metadata in one word. The operand is
/// [ceil(K/64)][ceil(M/64)] tiles, the padding zeros and nibble 0x4: tiles of neighbouring tokens
/// are neighbours, so that a tile of A is one bulk copy and what the whole GPU reads at a time, all
/// tokens of the same channels, lies together.
///   bytes 0 .. 4095: 64 rows of 32 kept values, 64 bytes a row, its four 16-byte chunks permuted
///     as TMA's and wgmma's 64-byte swizzle wants it: chunk c of row t lies at c ^ (t / 2 % 4);
///   bytes 4096 .. 4607: metadata of the four slices of 16 tokens, 32 words each, one per lane.
/// Of e4m3 elements a tile has 128 channels: a row is 64 kept values, 64 bytes as well, and the
/// metadata of channels 64 .. 127 follows that of channels 0 .. 63.
inline constexpr int kPackedTileTokens = 64;
inline constexpr int kPackedTileChannels = 64;
inline constexpr int kPackedTileValueBytes = 4096;
inline constexpr int kPackedTileBytes = 4608;
inline constexpr int kPackedMetadataBytes = kPackedTileBytes - kPackedTileValueBytes;

/// Channels and bytes of a tile.
constexpr int packed_tile_channels(OperandWidth width) {
  return width == OperandWidth::k8 ? 2 * kPackedTileChannels : kPackedTileChannels;
}
constexpr int packed_tile_bytes(OperandWidth width) {
  return width == OperandWidth::k8 ? kPackedTileBytes + kPackedMetadataBytes : kPackedTileBytes;
}

/// Which tile holds `token` and `channel` of an operand of `tokens` tokens.
constexpr std::int64_t packed_tile_index(std::int64_t token, std::int64_t channel,
                                         std::int64_t tokens,
                                         OperandWidth width = OperandWidth::k16) {
  const std::int64_t tiles_down = (tokens + kPackedTileTokens - 1) / kPackedTileTokens;
  return channel / packed_tile_channels(width) * tiles_down + token / kPackedTileTokens;
}

/// Byte offset in a tile of kept value `column` of row `token` 0 .. 63.
constexpr int packed_value_offset(int token, int column, OperandWidth width = OperandWidth::k16) {
  const int byte = column * (static_cast<int>(width) / 8);
  return token * 64 + (((byte / 16) ^ (token / 2 % 4)) * 16) + byte % 16;
}

/// Throws the Error of sizes whose operand has no number of bytes.
[[noreturn]] void fail_operand24_bytes(std::int64_t tokens, std::int64_t channels);

/// Bytes of the whole operand. Throws Error for a size below 0 and for 2^63 bytes or more.
constexpr std::int64_t operand24_bytes(std::int64_t tokens, std::int64_t channels,
                                       OperandWidth width = OperandWidth::k16) {
  const int tile_channels = packed_tile_channels(width), tile_bytes = packed_tile_bytes(width);
  const std::int64_t most_tiles = std::numeric_limits<std::int64_t>::max() / tile_bytes;
  if (tokens < 0 || channels < 0) fail_operand24_bytes(tokens, channels);
  const std::int64_t down = tokens / kPackedTileTokens + (tokens % kPackedTileTokens != 0);
  const std::int64_t across = channels / tile_channels + (channels % tile_channels != 0);
  if (down > 0 && across > most_tiles / down) fail_operand24_bytes(tokens, channels);
  return down * across * tile_bytes;
}

/// values [M, K/2] of a 16-bit type or e4m3 and metadata [M, K/16] (compress24.h) to the operand,
/// on the host. Throws Error unless K is divisible by 16 and the element type is one of these.
void to_operand24(ConstMatrixView values, const std::uint16_t* metadata, void* operand);

/// The exact inverse; padding is not read.
void from_operand24(const void* operand, MatrixView values, std::uint16_t* metadata);

/// Words of metadata for `tokens` x `channels`: whole tiles, ragged edges padded. Throws as
/// operand24_bytes does.
std::int64_t operand_metadata_words(std::int64_t tokens, std::int64_t channels);

/// Row-major metadata [tokens, channels/16] (compress24.h) to operand order
/// [ceil(tokens/16), ceil(channels/64), 32 lanes]. Padding is nibble 0x4, a valid pattern: with
/// zeros for values it adds nothing to a product. Throws Error unless channels is divisible by 16.
void metadata_to_operand(OperandWidth width, const std::uint16_t* metadata, std::int64_t tokens,
                         std::int64_t channels, std::uint32_t* words);

/// The exact inverse; padding is not read.
void metadata_from_operand(OperandWidth width, const std::uint32_t* words, std::int64_t tokens,
                           std::int64_t channels, std::uint16_t* metadata);

}  // namespace rtlynx
