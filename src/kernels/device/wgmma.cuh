// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/device/element.cuh"

/// Warpgroup matrix instructions of sm_90a: D [64, N] += A [64, K] B [N, K]^T, A and B in shared
/// memory, K-major and swizzled, D in fp32 registers. Thread t of the warpgroup holds rows
/// 16 (t / 32) + t % 32 / 4 (d[4 j], d[4 j + 1]) and that + 8 (d[4 j + 2], d[4 j + 3]), columns
/// 8 j + 2 (t % 4) and the next.
namespace rtlynx::device {

/// Registers written before it are seen by the instructions after it.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most kPending groups are in flight.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Operand tiles of rows of 64 or 128 bytes, swizzled in chunks of 16 bytes over 8 rows; the
/// address is aligned to 8 rows. Source: PTX ISA, matrix descriptor.
enum class Swizzle : std::uint64_t { b128 = 1, b64 = 2 };

template <Swizzle kSwizzle>
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kEightRows = kSwizzle == Swizzle::b128 ? 1024 : 512;
  constexpr std::uint64_t kFixed =
      1ull << 16 | (kEightRows >> 4) << 32 | static_cast<std::uint64_t>(kSwizzle) << 62;
  return kFixed | ((address & 0x3ffffu) >> 4);
}

/// The descriptor of the matrix so many bytes further on in the same rows.
__device__ __forceinline__ std::uint64_t advance(std::uint64_t descriptor, int bytes) {
  return descriptor + static_cast<unsigned>(bytes >> 4);
}

/// wgmma of one element type and N. sparse<kSelector>: k32, A compressed [64, 16], its metadata
/// from lanes 2 kSelector and 2 kSelector + 1 of each quad; of e4m3 k64, A [64, 32], metadata from
/// all lanes, selector 0. dense: k16. Both add to d if `accumulate`, else overwrite it.
template <typename Element, int kN>
struct Wgmma;

// The instruction takes its accumulators one by one: the lists are long, not clever.
#define RTLYNX_D256                                                                               \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),  \
      "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),  \
      "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),  \
      "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),  \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),  \
      "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]),  \
      "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]),  \
      "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]),  \
      "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),  \
      "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]),  \
      "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]),          \
      "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]),         \
      "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]),         \
      "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]),         \
      "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
#define RTLYNX_R256                                                                              \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "   \
  "%127}"
#define RTLYNX_D64                                                                                \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define RTLYNX_R64                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define RTLYNX_D128                                                                               \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),  \
      "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),  \
      "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),  \
      "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),  \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define RTLYNX_R128                                                                  \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define RTLYNX_WGMMA(ELEMENT, TYPE, N, A, B, C, D, E)                                              \
  template <>                                                                                      \
  struct Wgmma<ELEMENT, N> {                                                                       \
    template <int kSelector>                                                                       \
    static __device__ __forceinline__ void sparse(float (&d)[N / 2], std::uint64_t a,              \
                                                  std::uint64_t b, std::uint32_t metadata,         \
                                                  int accumulate) {                                \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" D                                          \
                   ", 0;\n"                                                                        \
                   "wgmma.mma_async.sp.sync.aligned.m64n" #N "k32.f32." TYPE "." TYPE              \
                   " " RTLYNX_R##N ", %" A ", %" B ", %" C ", %" E ", p, 1, 1, 0, 0;\n}"           \
                   : RTLYNX_D##N                                                                   \
                   : "l"(a), "l"(b), "r"(metadata), "r"(accumulate), "n"(kSelector));              \
    }                                                                                              \
    static __device__ __forceinline__ void dense(float (&d)[N / 2], std::uint64_t a,               \
                                                 std::uint64_t b, int accumulate) {                \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" C                                          \
                   ", 0;\n"                                                                        \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " " RTLYNX_R##N \
                   ", %" A ", %" B ", p, 1, 1, 0, 0;\n}"                                           \
                   : RTLYNX_D##N                                                                   \
                   : "l"(a), "l"(b), "r"(accumulate));                                             \
    }                                                                                              \
  };
// e4m3: both operands K-major, so that there is nothing to transpose.
template <>
struct Wgmma<E4m3, 256> {
  template <int kSelector>
  static __device__ __forceinline__ void sparse(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                                std::uint32_t metadata, int accumulate) {
    static_assert(kSelector == 0);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %131, 0;\n"
        "wgmma.mma_async.sp.sync.aligned.m64n256k64.f32.e4m3.e4m3 " RTLYNX_R256
        ", %128, %129, %130, 0, p, 1, 1;\n}"
        : RTLYNX_D256
        : "l"(a), "l"(b), "r"(metadata), "r"(accumulate));
  }
};
RTLYNX_WGMMA(Bf16, "bf16", 64, "32", "33", "34", "35", "36")
RTLYNX_WGMMA(F16, "f16", 64, "32", "33", "34", "35", "36")
RTLYNX_WGMMA(Bf16, "bf16", 128, "64", "65", "66", "67", "68")
RTLYNX_WGMMA(F16, "f16", 128, "64", "65", "66", "67", "68")
RTLYNX_WGMMA(Bf16, "bf16", 256, "128", "129", "130", "131", "132")
RTLYNX_WGMMA(F16, "f16", 256, "128", "129", "130", "131", "132")

#undef RTLYNX_R128
#undef RTLYNX_D128
#undef RTLYNX_R64
#undef RTLYNX_D64
#undef RTLYNX_WGMMA
#undef RTLYNX_R256
#undef RTLYNX_D256

}  // namespace rtlynx::device
