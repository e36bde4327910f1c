// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/shared.cuh"
#include "kernels/pack/params.h"
#include "rtlynx/operand24.h"

/// The variants of the portable pack kernel.
namespace rtlynx::pack::sm80 {

inline constexpr int kThreads = 128;
inline constexpr int kTokens = kPackedTileTokens;
inline constexpr int kAnyProducer = -1;

/// kProducer: the producer, or kAnyProducer to look at run time. kRankTiles: columns of H by
/// eights; for more, further CTAs (blockIdx.y) select again, but store only their columns.
/// kTransformTiles: tiles of 64 channels that the transform mixes: 0, 1 (blocks up to 64) or 2.
template <typename ElementType, int kProducerOrAny, int kMaxRankTiles, int kTransformTiles>
struct Traits {
  using Element = ElementType;
  static constexpr int kProducer = kProducerOrAny;
  static constexpr int kRankTiles = kMaxRankTiles;
  static constexpr int kTransform = kTransformTiles;
  static constexpr int kStepTiles = kTransform == 2 ? 2 : 1;  // tiles of channels a step
  // What their registers allow without spills.
  static constexpr bool kNorm = kProducer == static_cast<int>(Producer::norm);
  static constexpr int kCtasPerSm = kTransform > 0 || kRankTiles > 8 ? 2
                                    : kNorm || kRankTiles > 0        ? 3
                                                                     : 4;

  // A stage: matrices of rows of 64 channels, first of the transform, then of `down`.
  static constexpr int kRowBytes = 128;
  static constexpr int kTransformBytes = kTransform * kTransform * 64 * kRowBytes;
  static constexpr int kDownBytes = kRankTiles * 8 * kRowBytes;
  static constexpr int kStageBytes = kTransformBytes + kStepTiles * kDownBytes;
  static constexpr int kStages = kTransform == 2 ? 3 : 4;  // what shared memory holds
  static constexpr bool kStaged = kStageBytes > 0;
  static constexpr int kRank = kRankTiles * 8;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

/// The first column of H that this CTA computes; only the CTAs of column 0 store the rest.
template <typename T>
__device__ __forceinline__ int first_column() {
  return static_cast<int>(blockIdx.y) * T::kRank;
}

}  // namespace rtlynx::pack::sm80
