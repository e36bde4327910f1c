// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include "kernels/device/wgmma.cuh"
#include "kernels/pack/params.h"
#include "kernels/pack/runs.h"
#include "kernels/pack/token_pair.cuh"
#include "rtlynx/operand24.h"

/// The pack kernel for Hopper: what its instances differ in, and its shared memory.
namespace rtlynx::pack::sm90 {

inline constexpr int kWarpgroups = 2;  // each has the 64 tokens of a packed tile
inline constexpr int kTileTokens = kWarpgroups * kPackedTileTokens;  // of a block
inline constexpr int kThreads = 128 * kWarpgroups;
inline constexpr int kRowBytes = 2 * kPackedTileChannels;
inline constexpr int kTileBytes = kTileTokens * kRowBytes;            // of X
inline constexpr int kMultiprocessorBytes = 228 * 1024;               // of shared memory
inline constexpr int kMatrixBytes = kPackedTileChannels * kRowBytes;  // [64, 64]

/// What TMA reads; the host fills it in (launch.cuh).
struct TensorMaps {
  CUtensorMap x;          // [M, K], box [128, 64]
  CUtensorMap other;      // the same of `up`, for swiglu, or of the tail
  CUtensorMap down;       // [low columns, K], box [kRank, 64]
  CUtensorMap transform;  // five axes: see transform_box() in launch.cuh
};

/// How the CTAs share the work, and where they leave what has to be added up (parts.cuh).
struct Sharing {
  Runs runs;
  std::uint32_t* arrivals;  // [gridDim.y, gridDim.x], zeros before and after
  float4* parts;            // [gridDim.y, gridDim.x, 2, T::kPartVectors]
};

/// kRank: columns of H that a CTA computes: 0, 64, 128, 192 or 256; for more, further CTAs
/// (blockIdx.y) select again, but store only their columns. kTransform: tiles of 64 channels that
/// the transform mixes: 0, 1 (blocks of 64) or 2 (128). kSharesRuns: how CTAs share the channels of
/// a block: by runs (parts.cuh), else by clusters (cluster_sums.cuh).
template <typename ElementType, Producer kTheProducer, int kRankColumns, int kTransformTiles,
          bool kSharesRuns>
struct Traits {
  using Element = ElementType;
  static constexpr Producer kProducer = kTheProducer;
  static constexpr int kRank = kRankColumns;
  static constexpr int kTransform = kTransformTiles;
  static constexpr bool kRuns = kSharesRuns;
  static constexpr int kStepTiles = kTransform == 2 ? 2 : 1;  // tiles of channels a step
  static constexpr bool kSwiglu = kProducer == Producer::swiglu;
  static constexpr bool kNorm = kProducer == Producer::norm;
  static constexpr bool kProduces = kProducer != Producer::none;

  // A stage: X, then up, the transform's matrices [output tile][input tile], `down`, and a norm's
  // weight, modulation scale and shift, 64 elements of each.
  static constexpr int kUpOffset = kStepTiles * kTileBytes;
  static constexpr int kTransformOffset = kUpOffset + (kSwiglu ? kStepTiles * kTileBytes : 0);
  static constexpr int kDownOffset = kTransformOffset + kTransform * kTransform * kMatrixBytes;
  static constexpr int kDownBytes = kRank * kRowBytes;
  static constexpr int kModulationOffset = kDownOffset + kStepTiles * kDownBytes;
  static constexpr int kModulationBytes = kPackedTileChannels * 2;
  static constexpr int kModulations = 3;
  static constexpr int kStageBytes =
      kModulationOffset + (kNorm ? 1024 : 0);  // matrices are aligned to 1024

  // What waits for exponentials or products gains from company on its multiprocessor, what waits
  // for memory does not. Runs, of which every multiprocessor has as many, do without, except that
  // GELU's would take about 15 % longer. A transform of two tiles and more than 64 columns of H
  // have no registers for it.
  static constexpr bool kGelu = kProducer == Producer::gelu;
  static constexpr bool kOnlySelects = !kProduces && kTransform == 0 && kRank == 0;
  static constexpr bool kAlone = kOnlySelects || (kRuns && !kGelu);
  static constexpr int kCtasPerSm = kAlone || kTransform == 2 || kRank > 64 ? 1 : 2;
  static constexpr int kLargestBytes = kMultiprocessorBytes / kCtasPerSm - 1024;

  static constexpr int kBeyondBytes = kThreads * 32;  // PairSums::Beyond of each thread
  static constexpr int kCursorBytes = 32;
  // What is loaded next: in shared memory where registers are scarce.
  static constexpr bool kSharedCursor = kRuns || (kCtasPerSm == 2 && kTransform > 0 && kRank > 0);
  // More bytes on their way make the memory slower.
  static constexpr int kMostStages = kOnlySelects && kRuns ? 5 : 6;
  static constexpr int kFit =
      (kLargestBytes - kBeyondBytes - kCursorBytes - 16 * kMostStages) / kStageBytes;
  static constexpr int kStages = kFit < kMostStages ? kFit : kMostStages;
  static constexpr int kBeyondOffset = kStages * kStageBytes;
  static constexpr int kCursorOffset = kBeyondOffset + kBeyondBytes;
  static constexpr int kBarrierOffset = kCursorOffset + kCursorBytes;
  static constexpr int kUsedBytes = kBarrierOffset + 16 * kStages;
  // With more than half of the shared memory a CTA is alone on its multiprocessor.
  static constexpr int kAloneBytes = kMultiprocessorBytes / 2 + 1024;
  static constexpr int kSharedBytes =
      kCtasPerSm == 1 && kUsedBytes < kAloneBytes ? kAloneBytes : kUsedBytes;

  static constexpr int kLowRegisters = kRank > 0 ? kRank / 2 : 1;  // of a thread, for H
  // A part of a block in device memory: its sums [128], and of H what each thread holds, eight
  // columns after eight; in vectors of four floats.
  static constexpr int kPartVectors = kTileTokens + kRank / 8 * kThreads;
  static_assert(kStages >= 1);
  static_assert(kStageBytes % 1024 == 0 && kStepTiles * kModulations * kModulationBytes <= 1024);
};

/// The row of the thread's upper token in the block's 128.
__device__ __forceinline__ int block_row_of_thread() {
  return static_cast<int>(threadIdx.x) / 128 * kPackedTileTokens + row_of_thread();
}

/// The first column of H that this CTA computes; only the CTAs of column 0 store the rest.
template <typename T>
__device__ __forceinline__ int first_column() {
  return static_cast<int>(blockIdx.y) * T::kRank;
}

}  // namespace rtlynx::pack::sm90
