// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace rtlynx {

/// The storage of one element, the bits of its infinity, and its value in fp32.
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
};

}  // namespace rtlynx
