// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Control of CTAs, warpgroups and grids (sm_90).
namespace rtlynx::device {

__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ int cluster_size() {
  int size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

/// Arrives at the cluster's barrier; cluster_wait() must follow before the next arrival. By all
/// threads of all warps that have not ended.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
}

/// The same without making earlier writes visible: for a wait until others have read.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// 16 or 8 bytes of another CTA of the cluster; `address` is the shared_address() of the own ones.
__device__ __forceinline__ void load_cluster(std::uint32_t address, int cta, float4& vector) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [remote];\n"
      "}"
      : "=f"(vector.x), "=f"(vector.y), "=f"(vector.z), "=f"(vector.w)
      : "r"(address), "r"(cta)
      : "memory");
}
__device__ __forceinline__ void load_cluster(std::uint32_t address, int cta, float2& pair) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %2, %3;\n"
      "ld.shared::cluster.v2.f32 {%0, %1}, [remote];\n"
      "}"
      : "=f"(pair.x), "=f"(pair.y)
      : "r"(address), "r"(cta)
      : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Named barrier `id` 1 .. 15 for `threads` threads.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Waits for the grids this one depends on, and sees what they wrote. At once if it was launched
/// without programmatic dependence, which GPUs before sm_90 do not have.
__device__ __forceinline__ void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets a programmatically dependent grid start as SMs fall free.
__device__ __forceinline__ void let_next_grid_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

/// Counts from 0 to `count` and at once back to 0; whether this was the last. What the CTA wrote
/// before (__syncthreads() in between) is seen by whoever is last, and the CTA of that thread.
__device__ __forceinline__ bool count_up(std::uint32_t* counter, int count) {
  std::uint32_t before;
  asm volatile("atom.inc.acq_rel.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(counter), "r"(count - 1)
               : "memory");
  return before == static_cast<std::uint32_t>(count - 1);
}

__device__ __forceinline__ void store_release(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

}  // namespace rtlynx::device
