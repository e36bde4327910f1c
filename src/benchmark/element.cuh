// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/error.h"
#include "rtlynx/dtype.h"

namespace rtlynx::benchmark {

__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ T narrow(float value);
template <>
__device__ inline __half narrow<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// Eight 16-bit elements, moved as one 16-byte word.
template <typename T>
struct alignas(16) Vector8 {
  T values[8];
};
inline constexpr int kVectorElements = 8;

/// Calls body(T{}) with the 16-bit CUDA type of `dtype`.
template <typename Body>
void with_device_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body(__half{});
    case DType::bf16:
      return body(__nv_bfloat16{});
    default:
      fail("benchmark", "f16 or bf16", name_of(dtype));
  }
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace rtlynx::benchmark
