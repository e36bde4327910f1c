// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "kernels/device/element.h"

namespace rtlynx {

/// The storage of one element, the bits of its infinity, and its value in fp32. The 16-bit types
/// also convert two neighbours at once, the one of the lower address in the lower half.
struct F32 {
  using Bits = std::uint32_t;
  static constexpr Bits kInfinity = 0x7f800000u;
  static __device__ float to_float(Bits bits) { return __uint_as_float(bits); }
  static __device__ Bits from_float(float value) { return __float_as_uint(value); }
};

struct F16 {
  using Bits = std::uint16_t;
  static constexpr Bits kInfinity = 0x7c00u;
  static __device__ float to_float(Bits bits) { return __half2float(__ushort_as_half(bits)); }
  static __device__ Bits from_float(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
  static __device__ float2 to_float2(std::uint32_t bits) {
    __half2 pair;
    memcpy(&pair, &bits, sizeof(pair));
    return __half22float2(pair);
  }
  static __device__ std::uint32_t from_float2(float2 values) {
    const __half2 pair = __floats2half2_rn(values.x, values.y);
    std::uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
  }
};

struct Bf16 {
  using Bits = std::uint16_t;
  static constexpr Bits kInfinity = 0x7f80u;
  static __device__ float to_float(Bits bits) {
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
  }
  static __device__ Bits from_float(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
  static __device__ float2 to_float2(std::uint32_t bits) {
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  }
  static __device__ std::uint32_t from_float2(float2 values) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(values.x, values.y);
    std::uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
  }
};

}  // namespace rtlynx
