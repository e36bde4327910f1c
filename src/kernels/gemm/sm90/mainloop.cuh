// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/cta.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/gemm/sm90/traits.cuh"

namespace rtlynx::sm90 {

template <typename T>
using Accumulators = float[T::kAccumulators];

/// One thread that keeps the ring of stages full.
template <typename T>
class Producer {
 public:
  __device__ Producer(const Params& params, std::uint32_t base) : params_(params), ring_{base} {}

  /// Loads the steps of `work`. The first call lets weights come while the grid that writes the
  /// input still runs.
  __device__ void load(const gpu::Work& work) {
    const Tile tile = locate<T>(params_, work.tile);
    const int blocks = min(T::kBlocks, tile.of->sparse_blocks - tile.sparse_block);
    const int early = first_ ? load_weights_early(work, tile, blocks) : 0;
#pragma unroll 1
    for (int i = 0; i < work.steps; ++i) {
      const int step = work.first_step + i;
      if (i < early) {
        load_input(tile, blocks, step);
      } else {
        device::mbarrier_wait(ring_.empty_of(ring_.slot), ring_.phase ^ 1);
        expect(ring_, blocks, step);
        // The sparse operand first: measured faster.
        load_sparse(ring_, tile, blocks, step);
        load_dense(ring_, tile, step);
      }
      ring_.advance();
    }
  }

 private:
  static constexpr bool kSparseTokens = T::kSparseRows == SparseRows::tokens;

  /// Fills the ring with weights, then waits for the input to be written. Returns how many steps.
  __device__ int load_weights_early(const gpu::Work& work, const Tile& tile, int blocks) {
    first_ = false;
    const int early = min(T::kStages, work.steps);
    Ring<T> ahead = ring_;
#pragma unroll 1
    for (int i = 0; i < early; ++i) {
      expect(ahead, blocks, work.first_step + i);
      load_weight(ahead, tile, blocks, work.first_step + i);
      ahead.advance();
    }
    device::wait_for_previous_grid();
    return early;
  }

  __device__ bool is_low(int step) const { return step >= params_.k_steps; }

  __device__ void expect(const Ring<T>& ring, int blocks, int step) const {
    const int block_bytes = is_low(step) ? kPackedTileValueBytes : T::kPackedBytes;
    const int row_bytes = is_low(step) ? 64 : T::kStepRowBytes;
    device::mbarrier_arrive_expect(ring.full(), blocks * block_bytes + T::kTileDense * row_bytes);
  }

  __device__ void load_weight(const Ring<T>& ring, const Tile& tile, int blocks, int step) const {
    if constexpr (kSparseTokens) {
      load_dense(ring, tile, step);
    } else {
      load_sparse(ring, tile, blocks, step);
    }
  }
  __device__ void load_input(const Tile& tile, int blocks, int step) const {
    if constexpr (kSparseTokens) {
      load_sparse(ring_, tile, blocks, step);
    } else {
      load_dense(ring_, tile, step);
    }
  }

  __device__ int low_step(int step) const { return (step - params_.k_steps) * T::kLowStepRank; }

  __device__ void load_dense(const Ring<T>& ring, const Tile& tile, int step) const {
    const Output& of = *tile.of;
    const bool low = is_low(step);
    const int first_low = kSparseTokens ? 0 : of.low_column;
    const int column = low ? first_low + low_step(step) : step * T::kStepChannels;
    device::tensor_load(ring.dense(), low ? &of.dense_low : &of.dense, column, tile.dense_row,
                        ring.full());
  }

  __device__ void load_sparse(const Ring<T>& ring, const Tile& tile, int blocks, int step) const {
    const Output& of = *tile.of;
    if (!is_low(step)) {
      const std::int64_t packed =
          static_cast<std::int64_t>(step) * of.sparse_blocks + tile.sparse_block;
      device::bulk_load(ring.sparse(0), of.sparse + packed * T::kPackedBytes,
                        blocks * T::kPackedBytes, ring.full());
      return;
    }
    const int column = (kSparseTokens ? of.low_column : 0) + low_step(step);
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
      device::tensor_load(ring.sparse(block), &of.sparse_low, column,
                          (tile.sparse_block + block) * T::kBlockRows, ring.full());
    }
  }

  const Params& params_;
  Ring<T> ring_;
  bool first_ = true;
};

/// One warpgroup that multiplies what is in the ring. One group of instructions stays in flight
/// while the next stage is awaited.
template <typename T>
class Consumer {
 public:
  __device__ Consumer(const Params& params, std::uint32_t base, int warpgroup)
      : params_(params), ring_{base}, warpgroup_(warpgroup) {}

  /// The sum over the steps of `work`. The last stage stays this warp's until release_last() or
  /// lend_last().
  __device__ __forceinline__ void multiply(const gpu::Work& work, Accumulators<T>& acc) {
    const int end = work.first_step + work.steps;
    int step = work.first_step;
    int accumulate = 0;
    last_ = -1;
#pragma unroll 2
    for (; step < min(end, params_.k_steps); ++step) {
      multiply_sparse(acc, accumulate);
      accumulate = 1;
      finish_step();
    }
#pragma unroll 1
    for (; step < end; ++step) {
      multiply_low(step, acc, accumulate);
      accumulate = 1;
      finish_step();
    }
    device::wgmma_wait<0>();
    take_back();
  }

  /// A warpgroup beyond the last row still frees its stages, all but the last. The one that its
  /// previous tile lent comes first: with more steps than stages the producer waits for it.
  __device__ void skip(const gpu::Work& work) {
    take_back();
    last_ = -1;
    for (int i = 0; i < work.steps; ++i) {
      device::mbarrier_wait(ring_.full(), ring_.phase);
      if (last_ >= 0) release(last_);
      last_ = ring_.slot;
      ring_.advance();
    }
  }

  __device__ void release_last() { release(last_); }

  /// Leaves the last stage to the stores of this tile; it goes back to the producer when TMA has
  /// read them, in the course of the next tile.
  __device__ void lend_last() { lent_ = last_; }
  __device__ std::uint32_t last_stage() const { return ring_.stage(last_); }

 private:
  __device__ __forceinline__ void multiply_sparse(Accumulators<T>& acc, int accumulate) {
    device::mbarrier_wait(ring_.full(), ring_.phase);
    // The word of this lane: [4 slices of 16 rows][32 lanes]. One serves both halves of 16-bit
    // elements, each half of e4m3 has its own.
    const std::uint32_t own = sparse() + kPackedTileValueBytes + threadIdx.x % 128 * 4;
    const std::uint32_t metadata = device::load_shared(own);
    std::uint32_t second = metadata;
    if constexpr (T::kWidth == OperandWidth::k8) {
      second = device::load_shared(own + kPackedMetadataBytes);
    }
    device::wgmma_fence();
    multiply_half<0>(acc, metadata, accumulate);
    multiply_half<1>(acc, second, 1);
    device::wgmma_commit();
  }

  template <int kHalf>  // the first or the second half of the step's channels
  __device__ __forceinline__ void multiply_half(Accumulators<T>& acc, std::uint32_t metadata,
                                                int accumulate) {
    const auto a = device::matrix_descriptor<device::Swizzle::b64>(sparse() + 32 * kHalf);
    const auto b = device::matrix_descriptor<device::Swizzle::b128>(ring_.dense() + 64 * kHalf);
    constexpr int kSelector = T::kWidth == OperandWidth::k8 ? 0 : kHalf;
    T::Mma::template sparse<kSelector>(acc, a, b, metadata, accumulate);
  }

  __device__ __forceinline__ void multiply_low(int step, Accumulators<T>& acc, int accumulate) {
    device::mbarrier_wait(ring_.full(), ring_.phase);
    device::wgmma_fence();
    multiply_rank16(0, 0, acc, accumulate);
    // Beyond the rank `up` reads as zeros, but `low` as another weight's columns, which may not be
    // finite: there this weight's are taken twice.
    const int left = params_.rank - (step - params_.k_steps) * T::kLowStepRank;
    const int low_half = left > T::kLowStepRank / 2 ? 1 : 0;
    constexpr bool kSparseTokens = T::kSparseRows == SparseRows::tokens;
    multiply_rank16(kSparseTokens ? low_half : 1, kSparseTokens ? 1 : low_half, acc, 1);
    device::wgmma_commit();
  }

  __device__ __forceinline__ void multiply_rank16(int sparse_half, int dense_half,
                                                  Accumulators<T>& acc, int accumulate) {
    const auto a = device::matrix_descriptor<device::Swizzle::b64>(sparse() + 32 * sparse_half);
    const auto b = device::matrix_descriptor<device::Swizzle::b64>(ring_.dense() + 32 * dense_half);
    T::LowMma::dense(acc, a, b, accumulate);
  }

  /// Frees the slot of the group before the one just committed.
  __device__ __forceinline__ void finish_step() {
    device::wgmma_wait<1>();
    if (last_ >= 0) {
      release(last_);
      take_back();
    }
    last_ = ring_.slot;
    ring_.advance();
  }

  /// Gives a lent stage to the producer. By now TMA has long read it.
  __device__ __forceinline__ void take_back() {
    if (lent_ < 0) return;
    if (threadIdx.x % 32 == 0) device::store_wait_read<0>();
    release(lent_);
    lent_ = -1;
  }

  /// Each warp arrives for itself: it has read its own metadata.
  __device__ __forceinline__ void release(int slot) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) device::mbarrier_arrive(ring_.empty_of(slot));
  }

  __device__ std::uint32_t sparse() const { return ring_.sparse(warpgroup_); }

  const Params& params_;
  Ring<T> ring_;
  int warpgroup_;
  int last_ = -1;  // the slot that the last group of instructions reads
  int lent_ = -1;
};

}  // namespace rtlynx::sm90
