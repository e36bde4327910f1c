// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/pack/params.h"
#include "rtlynx/operand24.h"

/// The variants of the pack kernel, and how a cluster divides its work.
namespace rtlynx::pack {

inline constexpr int kThreads = 128;
inline constexpr int kTokens = kPackedTileTokens;

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
  // Few steps in registers and many CTAs: measured faster than the other way round. What their
  // registers allow without spills.
  static constexpr bool kNorm = kProducer >= static_cast<int>(gpu::Producer::layer_norm);
  static constexpr int kCtasPerSm = kTransform > 0 || kRankTiles > 8  ? 2
                                    : kNorm                           ? 3
                                    : kRankTiles > 0 || kProducer > 0 ? 4
                                                                      : 5;

  // A stage: matrices of rows of 64 channels, first of the transform, then of `down`.
  static constexpr int kRowBytes = 128;
  static constexpr int kTransformBytes = kTransform * kTransform * 64 * kRowBytes;
  static constexpr int kDownBytes = kRankTiles * 8 * kRowBytes;
  static constexpr int kStageBytes = kTransformBytes + kStepTiles * kDownBytes;
  static constexpr int kStages = kTransform == 2 ? 3 : 4;  // what shared memory holds
  static constexpr bool kStaged = kStageBytes > 0;
  static constexpr int kRank = kRankTiles * 8;
  static constexpr int kSumBytes = kTokens * 16;
  static constexpr int kExchangeBytes = kSumBytes + kTokens * kRank * 4;
  // Four stages; or three stages and two copies of `down` for wgmma.
  static constexpr int kStagedBytes = kStages * kStageBytes + (kTransform == 0 ? kDownBytes : 0);
  static constexpr int kSharedBytes = kStagedBytes > kExchangeBytes ? kStagedBytes : kExchangeBytes;
};

inline constexpr int kAnyProducer = -1;

/// The part of the cluster's work that this CTA does.
struct Slice {
  int rank;  // in the cluster
  int ctas;
  int first_step;
  int end_step;
};

__device__ __forceinline__ Slice own_slice(int steps) {
#if __CUDA_ARCH__ >= 900
  const int rank = device::cluster_rank(), ctas = device::cluster_size();
#else
  const int rank = 0, ctas = 1;
#endif
  return {rank, ctas, steps * rank / ctas, steps * (rank + 1) / ctas};
}

__device__ __forceinline__ void sync_cluster(const Slice& slice) {
#if __CUDA_ARCH__ >= 900
  if (slice.ctas > 1) {
    device::cluster_sync();
    return;
  }
#endif
  __syncthreads();
}

/// The first column of H that this CTA computes; only the CTAs of column 0 store the rest.
template <typename T>
__device__ __forceinline__ int first_column() {
  return static_cast<int>(blockIdx.y) * T::kRank;
}

/// A float of shared memory of CTA `cta` of the cluster.
__device__ __forceinline__ float load_of(const Slice& slice, const float* own, int cta) {
#if __CUDA_ARCH__ >= 900
  if (slice.ctas > 1) return device::load_cluster_float(device::shared_address(own), cta);
#endif
  return *own;
}

}  // namespace rtlynx::pack
