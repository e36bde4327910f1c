// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/gemm/sm90/store.cuh"
#include "kernels/gemm/sm90/store_transposed.cuh"

namespace rtlynx::sm90 {

template <typename T>
__device__ void start_barriers(std::uint32_t base) {
  if (threadIdx.x == 0) {
    const Ring<T> ring{base};
    for (int slot = 0; slot < T::kStages; ++slot) {
      device::mbarrier_init(base + T::kBarrierOffset + 8 * slot, 1);
      device::mbarrier_init(ring.empty_of(slot), T::kWarps);
    }
    device::mbarrier_init_fence();
  }
  __syncthreads();
}

template <typename T>
__device__ void consume(const Params& params, std::uint32_t base, int warpgroup) {
  device::wait_for_previous_grid();  // scale is written by it, or what gate and residual are
  Consumer<T> consumer(params, base, warpgroup);
  std::conditional_t<T::kSparseRows == SparseRows::tokens, Store<T>, TransposedStore<T>> store(
      base, warpgroup);
  auto state = params.scheduler.start(blockIdx.x);
  for (auto work = params.scheduler.next(state); work.steps > 0;
       work = params.scheduler.next(state)) {
    const Tile tile = locate<T>(params, work.tile);
    const int block = tile.sparse_block + warpgroup;
    const bool has_rows = block < tile.of->sparse_blocks;
    Accumulators<T> acc;
    if (has_rows) {
      if (work.owner) store.prepare(block * T::kBlockRows, tile);
      consumer.multiply(work, acc);
      if (work.owner && !work.whole) add_partials<T>(params, work.tile, warpgroup, acc);
    } else {
      consumer.skip(work);
    }
    // Both warpgroups have read the last stage.
    if (work.owner) device::named_barrier_sync(kTileBarrier, 128 * T::kWarpgroups);
    if (has_rows && work.owner) {
      store.write(block * T::kBlockRows, tile, consumer.last_stage(), acc);
      consumer.lend_last();
    } else {
      consumer.release_last();
      if (has_rows) write_partial<T>(params, warpgroup, acc);
    }
  }
  store.finish();
}

template <typename T>
__device__ void produce(const Params& params, std::uint32_t base) {
  Producer<T> producer(params, base);
  auto state = params.scheduler.start(blockIdx.x);
  for (auto work = params.scheduler.next(state); work.steps > 0;
       work = params.scheduler.next(state)) {
    producer.load(work);
  }
}

/// Persistent: a CTA per multiprocessor walks over its tiles; the producer is always some stages
/// ahead, across tiles too, so that one warpgroup's epilogue runs under another's products.
template <typename T>
__global__ void __launch_bounds__(T::kThreads, 1)
    product24_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) char shared[];
  const std::uint32_t base = device::shared_address(shared);
  // The same for a whole warp, which the compiler must know: products may not diverge.
  const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  start_barriers<T>(base);
  if (warpgroup == T::kWarpgroups) {
    device::decrease_registers<T::kProducerRegisters>();
    if (threadIdx.x % 128 == 0) produce<T>(params, base);
    __syncwarp();
  } else {
    device::increase_registers<T::kConsumerRegisters>();
    consume<T>(params, base, warpgroup);
  }
}

}  // namespace rtlynx::sm90
