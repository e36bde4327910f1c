// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/host_device.h"
#include "kernels/device/packed_tile.h"

/// Index maps of the mma.sp kernel: what lies where in shared memory, which lane reads which row,
/// which register holds what. Pure arithmetic, so that the CPU can run the kernel through it.
/// Offsets are bytes; a warp's rows and columns count from the corner of its own tile.
namespace rtlynx::sm80 {

inline constexpr int kTileTokens = 128;
inline constexpr int kTileOutputs = 128;
inline constexpr int kTileChannels = kPackedTileChannels;
inline constexpr int kWarpTokens = kPackedTileTokens;
inline constexpr int kWarpOutputs = 64;
inline constexpr int kWarpsAcross = kTileOutputs / kWarpOutputs;
inline constexpr int kWarps = kTileTokens / kWarpTokens * kWarpsAcross;
inline constexpr int kThreads = 32 * kWarps;

inline constexpr int kChunkBytes = 16;
inline constexpr int kChunkElements = 8;
inline constexpr int kRankStep = 32;  // columns of low and up that one step of the pipeline takes

/// A stage: two packed tiles and the tile of W, or a step of low and, in the place of W, of up.
inline constexpr int kOperandBytes = kTileTokens / kPackedTileTokens * kPackedTileBytes;
inline constexpr int kWeightBytes = kTileOutputs * kTileChannels * 2;
inline constexpr int kStageBytes = kOperandBytes + kWeightBytes;
/// Three fit in the 99 KiB of sm_86 and sm_89, and twice in an SM of sm_80 and sm_90.
inline constexpr int kStages = 3;
inline constexpr int kSharedBytes = kStages * kStageBytes;

/// Sums on their way from fragments to rows; in the place of the stages.
inline constexpr int kStagingBytes = kWarpTokens * kWarpOutputs * 4;  // of a warp
static_assert(kWarps * kStagingBytes <= kSharedBytes);
static_assert(kTileTokens * kRankStep * 2 <= kOperandBytes);

// Which tile a block computes.

struct Tile {
  int tokens;   // index of the tile of tokens
  int outputs;  // of outputs
};

/// Groups of tiles of tokens walk along N together: neighbours share W, and the group's part of the
/// operand stays in L2.
inline constexpr int kGroupTiles = 8;
RTLYNX_HOST_DEVICE constexpr Tile tile_of(int block, int token_tiles, int output_tiles) {
  const int first = block / (kGroupTiles * output_tiles) * kGroupTiles;
  const int left = token_tiles - first;
  const int group_tiles = left < kGroupTiles ? left : kGroupTiles;
  const int inside = block % (kGroupTiles * output_tiles);
  return {first + inside % group_tiles, inside / group_tiles};
}

// Copies to shared memory: copy `index` of `thread`.

struct ChunkPlace {
  int row;
  int chunk;
};

/// The packed tiles lie end to end and are copied as they are, chunk by chunk.
inline constexpr int kOperandChunks = kOperandBytes / kChunkBytes;
inline constexpr int kOperandCopies = (kOperandChunks + kThreads - 1) / kThreads;
RTLYNX_HOST_DEVICE constexpr int operand_copy(int thread, int index) {
  return index * kThreads + thread;  // the last ones may lie past kOperandChunks
}

/// W: rows of eight chunks, all banks.
inline constexpr int kWeightCopies = kWeightBytes / kChunkBytes / kThreads;
RTLYNX_HOST_DEVICE constexpr ChunkPlace weight_copy(int thread, int index) {
  return {index * (kThreads / 8) + thread / 8, thread % 8};
}
RTLYNX_HOST_DEVICE constexpr int weight_chunk_offset(int row, int chunk) {
  return row * 128 + (chunk ^ (row % 8)) * kChunkBytes;
}

/// low and up: rows of four chunks, at narrow_chunk_offset.
inline constexpr int kLowRankCopies = kTileTokens * kRankStep * 2 / kChunkBytes / kThreads;
static_assert(kTileTokens == kTileOutputs);
RTLYNX_HOST_DEVICE constexpr ChunkPlace low_rank_copy(int thread, int index) {
  return {index * (kThreads / 4) + thread / 4, thread % 4};
}

// Reads from shared memory.

RTLYNX_HOST_DEVICE constexpr int first_token(int warp) { return warp / kWarpsAcross * kWarpTokens; }
RTLYNX_HOST_DEVICE constexpr int first_output(int warp) {
  return warp % kWarpsAcross * kWarpOutputs;
}

/// Fragments of a warp: of 16 tokens, and of 8 outputs.
inline constexpr int kTokenFragments = kWarpTokens / 16;
inline constexpr int kOutputFragments = kWarpOutputs / 8;

/// A, 16 x 16 elements, by ldmatrix.x4: register 0 has rows 0-7, columns 0-7, register 1 rows 8-15,
/// registers 2 and 3 columns 8-15.
RTLYNX_HOST_DEVICE constexpr int a_row(int lane) { return lane % 16; }
RTLYNX_HOST_DEVICE constexpr int a_chunk(int half, int lane) { return 2 * half + lane / 16; }

/// Compressed A of token fragment m for channels 32 * half .. + 31. A warp has one packed tile.
RTLYNX_HOST_DEVICE constexpr int value_row(int warp, int m, int half, int lane) {
  return warp / kWarpsAcross * kPackedTileBytes +
         packed_chunk_offset(16 * m + a_row(lane), a_chunk(half, lane));
}

/// Its metadata: one word serves both halves, the half being the sparsity selector.
RTLYNX_HOST_DEVICE constexpr int metadata_word(int warp, int m, int lane) {
  return warp / kWarpsAcross * kPackedTileBytes + packed_word_offset(m, lane);
}

/// B of output fragment n for channels 32 * half .. + 31 by ldmatrix.x4: register i has channels
/// 8i .. 8i + 7 of the 32.
RTLYNX_HOST_DEVICE constexpr int weight_row(int warp, int n, int half, int lane) {
  return kOperandBytes +
         weight_chunk_offset(first_output(warp) + 8 * n + lane % 8, 4 * half + lane / 8);
}

/// A and B of a step of the low rank, for its columns 16 * half .. + 15; B by ldmatrix.x2.
RTLYNX_HOST_DEVICE constexpr int low_row(int warp, int m, int half, int lane) {
  return narrow_chunk_offset(first_token(warp) + 16 * m + a_row(lane), a_chunk(half, lane));
}
RTLYNX_HOST_DEVICE constexpr int up_row(int warp, int n, int half, int lane) {
  return kOperandBytes +
         narrow_chunk_offset(first_output(warp) + 8 * n + lane % 8, 2 * half + lane / 8 % 2);
}

// Accumulators.

struct Place {
  int row;
  int column;
};

/// Accumulators 2 * pair and 2 * pair + 1 of fragment (m, n) have this column and the next.
RTLYNX_HOST_DEVICE constexpr Place accumulator_pair(int m, int n, int pair, int lane) {
  return {16 * m + 8 * pair + lane / 4, 8 * n + 2 * (lane % 4)};
}

/// Offset of an fp32 sum in its warp's staging area. Chunks of four sums are permuted so that both
/// the fragments' pairs and the rows' chunks, even or odd ones, meet all banks.
RTLYNX_HOST_DEVICE constexpr int staging_offset(int row, int column) {
  const int chunk = column / 4;
  return row * kWarpOutputs * 4 + (chunk ^ (chunk / 8) ^ (row % 4 * 2)) * kChunkBytes +
         column % 4 * 4;
}
static_assert(kWarpOutputs == 64);

/// The eight neighbouring outputs that a lane finishes in `pass`.
inline constexpr int kLanesPerRow = kWarpOutputs / 8;
inline constexpr int kPasses = kWarpTokens * kLanesPerRow / 32;
RTLYNX_HOST_DEVICE constexpr Place finished_by(int pass, int lane) {
  return {pass * (32 / kLanesPerRow) + lane / kLanesPerRow, lane % kLanesPerRow * 8};
}

}  // namespace rtlynx::sm80
