// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/device/element.cuh"

/// Instructions of sm_80 and later: one PTX instruction, one wrapper. Shared memory is addressed as
/// shared_address() gives it.
namespace rtlynx::device {

/// Copies 16 bytes to shared memory, or fills them with zeros without touching `source`.
__device__ inline void cp_async_16(std::uint32_t target, const void* source, bool inside) {
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(target), "l"(source), "r"(bytes)
               : "memory");
}

__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Until at most kPending of this thread's latest groups are under way.
template <int kPending>
__device__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kPending) : "memory");
}

/// Matrices of 8 x 8 16-bit elements; lanes 8i .. 8i + 7 name the rows of matrix i.
__device__ inline void ldmatrix_x4(std::uint32_t (&matrices)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row)
               : "memory");
}

__device__ inline void ldmatrix_x2(std::uint32_t (&matrices)[2], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(matrices[0]), "=r"(matrices[1])
               : "r"(row)
               : "memory");
}

// PTX 8.5 (CUDA 12.5) lets us promise that each nibble names the lower channel first, as it does;
// without the promise Hopper may be slower.
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 5)
#define RTLYNX_MMA_SP "mma.sp::ordered_metadata"
#else
#define RTLYNX_MMA_SP "mma.sp"
#endif
#define RTLYNX_MMA_SP_M16N8K32(type)                                                            \
  asm(RTLYNX_MMA_SP ".sync.aligned.m16n8k32.row.col.f32." type "." type                         \
                    ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, "             \
                    "{%0, %1, %2, %3}, %12, %13;"                                               \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                          \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), \
        "r"(metadata), "n"(kSelector))

/// D [16, 8] += A [16, 32], 2:4-sparse, times B [32, 8]. Selector 0 takes the metadata of the first
/// two lanes of each quad, 1 of the last two.
template <typename Element, int kSelector>
__device__ void mma_sp_m16n8k32(float (&d)[4], const std::uint32_t (&a)[4],
                                const std::uint32_t (&b)[4], std::uint32_t metadata) {
  if constexpr (std::is_same_v<Element, Bf16>) {
    RTLYNX_MMA_SP_M16N8K32("bf16");
  } else {
    static_assert(std::is_same_v<Element, F16>);
    RTLYNX_MMA_SP_M16N8K32("f16");
  }
}
#undef RTLYNX_MMA_SP_M16N8K32
#undef RTLYNX_MMA_SP

#define RTLYNX_MMA_M16N8K16(type)                                            \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
      ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

/// D [16, 8] += A [16, 16] B [16, 8].
template <typename Element>
__device__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                             const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<Element, Bf16>) {
    RTLYNX_MMA_M16N8K16("bf16");
  } else {
    static_assert(std::is_same_v<Element, F16>);
    RTLYNX_MMA_M16N8K16("f16");
  }
}
#undef RTLYNX_MMA_M16N8K16

}  // namespace rtlynx::device
