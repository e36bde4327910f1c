// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "kernels/device/wgmma.cuh"
#include "kernels/gemm/epilogue.cuh"
#include "kernels/gemm/scheduler.h"
#include "kernels/gemm/sm90/tile.h"
#include "kernels/gemm/workspace.h"
#include "rtlynx/limits.h"
#include "rtlynx/operand24.h"

namespace rtlynx::sm90 {

/// What the rows of the sparse operand are: tokens of the input, or outputs, rows of a weight.
enum class SparseRows : std::uint8_t { tokens, outputs };

/// Two consumer warpgroups compute a tile of Y together, each half the rows of the sparse operand;
/// one more warpgroup holds the producer. A step along K is one packed tile of channels, or 32
/// columns of the low rank. ValueType: what is multiplied, Element or E4m3; both make steps of as
/// many bytes.
template <typename ElementType, typename ValueType, SparseRows kRows = SparseRows::tokens>
struct Traits {
  static constexpr SparseRows kSparseRows = kRows;
  using Element = ElementType;
  using Value = ValueType;
  static constexpr OperandWidth kWidth =
      std::is_same_v<Value, E4m3> ? OperandWidth::k8 : OperandWidth::k16;
  static constexpr int kTileSparse = gpu::kSm90SparseRows;
  static constexpr int kTileDense = gpu::kSm90DenseRows;
  using Mma = device::Wgmma<Value, kTileDense>;
  using LowMma = device::Wgmma<Element, kTileDense>;

  static constexpr int kBlockRows = kPackedTileTokens;  // M of wgmma
  static constexpr int kBlocks = kTileSparse / kBlockRows;
  static constexpr int kWarpgroups = kBlocks;  // a block of 64 x 256 sums is 128 registers a thread
  static constexpr int kThreads = 128 * (kWarpgroups + 1);
  static constexpr int kAccumulators = kTileDense / 2;
  // Together the 504 that a thread of each warpgroup has at the start (3 * 168): more would wait
  // for ever.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  static constexpr int kStepChannels = packed_tile_channels(kWidth);
  static constexpr int kStepRowBytes = 128;  // of the dense operand
  static constexpr int kLowStepRank = 32;
  static constexpr int kPackedBytes = packed_tile_bytes(kWidth);
  static constexpr int kSparseBytes = (kBlocks * kPackedBytes + 1023) / 1024 * 1024;
  static constexpr int kDenseBytes = kTileDense * kStepRowBytes;
  static constexpr int kStageBytes = kSparseBytes + kDenseBytes;

  // Where tokens are sparse, each warp stores its 16 of them in boxes of 64 outputs, from one
  // buffer of its own and two in the stage that the tile was the last to use. Where outputs are,
  // the warps of a warpgroup store its 64 for 64 tokens together, from their buffers as one.
  static constexpr int kStoreOutputs = 64;
  static constexpr int kStoreTokens = kRows == SparseRows::tokens ? 16 : 64;
  static constexpr int kStoreBytes = 16 * kStoreOutputs * 2;
  static constexpr int kWarps = 4 * kWarpgroups;
  static constexpr int kBorrowedBuffers = 2;

  // Behind the buffers in that stage each warpgroup keeps what the epilogue wants for each row of
  // the dense operand, a bias or a scale: [kTileDense] fp32.
  static constexpr int kVectorInStage = kWarps * kBorrowedBuffers * kStoreBytes;
  static constexpr int kVectorBytes = kTileDense * 4;

  static constexpr int kSharedBytes = gpu::kSm90SharedBytes;
  static constexpr int kMostBarrierBytes = 256;
  static constexpr int kStages =
      (kSharedBytes - kMostBarrierBytes - kWarps * kStoreBytes) / kStageBytes;
  static constexpr int kStoreOffset = kStages * kStageBytes;
  static constexpr int kBarrierOffset = kStoreOffset + kWarps * kStoreBytes;
  static constexpr int kUsedBytes = kBarrierOffset + 16 * kStages;

  static_assert(kTileSparse == 2 * kBlockRows);
  static_assert(kWarpgroups <= gpu::Gemm24Workspace::kFlagsPerCta);
  static_assert(kStages >= 3 && kUsedBytes <= kSharedBytes);
  static_assert(kVectorInStage + kWarpgroups * kVectorBytes <= kStageBytes);
  static_assert(kStageBytes % 1024 == 0 && kTileDense % kStoreOutputs == 0);
};

/// One weight and its result. Of X and W one is sparse, the other dense; the low rank of the sparse
/// one, `low` or `up`, has its rows, and that of the dense one has the dense one's.
struct Output {
  CUtensorMap dense;       // [rows, K], box [256, 128 bytes], 128-byte swizzle
  CUtensorMap sparse_low;  // box [64, 32], 64-byte swizzle
  CUtensorMap dense_low;   // box [256, 32], 64-byte swizzle
  CUtensorMap y;           // [M, N], box [kStoreTokens, 64], 128-byte swizzle
  EpilogueParams epilogue;
  const char* sparse;  // operand24
  int sparse_blocks;   // its rows in blocks of 64
  int first_tile;      // of outputs; its last tile may be ragged
  int low_column;      // its first of `low`
};

/// What the kernel reads; the host fills it in (launch.cu).
struct Params {
  Output outputs[kMaxProducts];
  int output_count;
  int k_steps;  // ceil(K / channels of a step)
  int rank;
  gpu::TileGrid grid;
  gpu::Scheduler scheduler;
  std::uint32_t* flags;  // [CTAs, kFlagsPerCta]: this warpgroup's part of the tile is written
  float* partials;       // [CTAs, elements of a tile]
};

/// The place of a CTA's tile in the product of one weight: rows of the sparse operand in blocks of
/// 64, and the first row of the dense one.
struct Tile {
  const Output* of;
  int sparse_block;
  int dense_row;
};

template <typename T>
__device__ Tile locate(const Params& params, int tile) {
  const gpu::TilePosition at = gpu::position(params.grid, tile);
  constexpr bool kTokens = T::kSparseRows == SparseRows::tokens;
  const int output_tile = kTokens ? at.dense_tile : at.sparse_tile;
  int index = 0;
  while (index + 1 < params.output_count && output_tile >= params.outputs[index + 1].first_tile) {
    ++index;
  }
  const Output& of = params.outputs[index];
  const int first = of.first_tile;
  const int sparse_tile = at.sparse_tile - (kTokens ? 0 : first);
  const int dense_tile = at.dense_tile - (kTokens ? first : 0);
  return {&of, sparse_tile * T::kBlocks, dense_tile * T::kTileDense};
}

/// Barriers and slots of the ring of stages.
template <typename T>
struct Ring {
  std::uint32_t base;  // shared_address() of the dynamic shared memory
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ std::uint32_t stage(int which) const { return base + which * T::kStageBytes; }
  __device__ std::uint32_t sparse(int block) const { return stage(slot) + block * T::kPackedBytes; }
  __device__ std::uint32_t dense() const { return stage(slot) + T::kSparseBytes; }
  __device__ std::uint32_t full() const { return base + T::kBarrierOffset + 8 * slot; }
  __device__ std::uint32_t empty_of(int which) const {
    return base + T::kBarrierOffset + 8 * (T::kStages + which);
  }
  __device__ void advance() {
    if (++slot == T::kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
};

}  // namespace rtlynx::sm90
