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

/// Two consumer warpgroups compute a tile of Y together, each half its tokens; one more warpgroup
/// holds the producer. A step along K is one packed tile of channels, or 32 columns of the low
/// rank. ValueType: what is multiplied, Element or E4m3; both make steps of as many bytes.
template <typename ElementType, typename ValueType>
struct Traits {
  using Element = ElementType;
  using Value = ValueType;
  static constexpr OperandWidth kWidth =
      std::is_same_v<Value, E4m3> ? OperandWidth::k8 : OperandWidth::k16;
  static constexpr int kTileTokens = gpu::kSm90TileTokens;
  static constexpr int kTileOutputs = gpu::kSm90TileOutputs;
  using Mma = device::Wgmma<Value, kTileOutputs>;
  using LowMma = device::Wgmma<Element, kTileOutputs>;

  static constexpr int kBlockTokens = kPackedTileTokens;  // M of wgmma
  static constexpr int kBlocks = kTileTokens / kBlockTokens;
  static constexpr int kWarpgroups = kBlocks;  // a block of 64 x 256 sums is 128 registers a thread
  static constexpr int kThreads = 128 * (kWarpgroups + 1);
  static constexpr int kAccumulators = kTileOutputs / 2;
  // Together the 504 that a thread of each warpgroup has at the start (3 * 168): more would wait
  // for ever.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  static constexpr int kStepChannels = packed_tile_channels(kWidth);
  static constexpr int kStepRowBytes = 128;  // of a weight
  static constexpr int kLowStepRank = 32;
  static constexpr int kPackedBytes = packed_tile_bytes(kWidth);
  static constexpr int kTokenBytes = (kBlocks * kPackedBytes + 1023) / 1024 * 1024;
  static constexpr int kWeightBytes = kTileOutputs * kStepRowBytes;
  static constexpr int kStageBytes = kTokenBytes + kWeightBytes;

  // Each warp stores its 16 tokens in boxes of 64 outputs, from one buffer of its own and two in
  // the stage that the tile was the last to use.
  static constexpr int kStoreOutputs = 64;
  static constexpr int kStoreBytes = 16 * kStoreOutputs * 2;
  static constexpr int kWarps = 4 * kWarpgroups;
  static constexpr int kBorrowedBuffers = 2;

  // Behind the buffers in that stage each warpgroup keeps the bias of its tile: [kTileOutputs]
  // fp32.
  static constexpr int kBiasInStage = kWarps * kBorrowedBuffers * kStoreBytes;
  static constexpr int kBiasBytes = kTileOutputs * 4;

  static constexpr int kSharedBytes = gpu::kSm90SharedBytes;
  static constexpr int kMostBarrierBytes = 256;
  static constexpr int kStages =
      (kSharedBytes - kMostBarrierBytes - kWarps * kStoreBytes) / kStageBytes;
  static constexpr int kStoreOffset = kStages * kStageBytes;
  static constexpr int kBarrierOffset = kStoreOffset + kWarps * kStoreBytes;
  static constexpr int kUsedBytes = kBarrierOffset + 16 * kStages;

  static_assert(kTileTokens == 2 * kBlockTokens);
  static_assert(kWarpgroups <= gpu::Gemm24Workspace::kFlagsPerCta);
  static_assert(kStages >= 3 && kUsedBytes <= kSharedBytes);
  static_assert(kBiasInStage + kWarpgroups * kBiasBytes <= kStageBytes);
  static_assert(kStageBytes % 1024 == 0 && kTileOutputs % kStoreOutputs == 0);
};

/// One weight and its result.
struct Output {
  CUtensorMap weight;  // [N, K], box [outputs of the tile, 128 bytes], 128-byte swizzle
  CUtensorMap up;      // [N, rank], box [outputs of the tile, 32], 64-byte swizzle
  CUtensorMap y;       // [M, N], box [16, 64], 128-byte swizzle
  EpilogueParams epilogue;
  int first_tile;  // of outputs; its last tile may be ragged
  int low_column;  // its first of `low`
};

/// What the kernel reads; the host fills it in (launch.cu).
struct Params {
  CUtensorMap low;  // [M, columns], box [64, 32], 64-byte swizzle
  Output outputs[kMaxProducts];
  int output_count;
  const char* operand;
  int token_blocks;  // ceil(M / 64)
  int k_steps;       // ceil(K / channels of a step)
  int rank;
  gpu::TileGrid grid;
  gpu::Scheduler scheduler;
  std::uint32_t* flags;  // [CTAs, kFlagsPerCta]: this warpgroup's part of the tile is written
  float* partials;       // [CTAs, tile tokens * tile outputs]
};

/// The place of a CTA's tile: tokens in blocks of 64, and the first of its outputs in one Y.
struct Tile {
  int token_block;
  const Output* of;
  int output;
};

template <typename T>
__device__ Tile locate(const Params& params, int tile) {
  const gpu::TilePosition at = gpu::position(params.grid, tile);
  int index = 0;
  while (index + 1 < params.output_count &&
         at.output_tile >= params.outputs[index + 1].first_tile) {
    ++index;
  }
  const Output& of = params.outputs[index];
  return {at.token_tile * T::kBlocks, &of, (at.output_tile - of.first_tile) * T::kTileOutputs};
}

/// Barriers and slots of the ring of stages.
template <typename T>
struct Ring {
  std::uint32_t base;  // shared_address() of the dynamic shared memory
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ std::uint32_t stage(int which) const { return base + which * T::kStageBytes; }
  __device__ std::uint32_t tokens(int block) const { return stage(slot) + block * T::kPackedBytes; }
  __device__ std::uint32_t weights() const { return stage(slot) + T::kTokenBytes; }
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
