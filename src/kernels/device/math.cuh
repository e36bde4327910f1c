// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rtlynx::device {

__device__ inline float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline float reciprocal_approx(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// GELU by the tanh formula: v (1 + tanh u) / 2 = v / (1 + exp(-2u)).
__device__ inline float gelu_tanh(float v) {
  constexpr float kSqrt2OverPi = 0.7978845608f;
  constexpr float kCubic = 0.044715f;
  constexpr float kMinus2Log2E = -2.885390082f;
  // Below, GELU is -0 in fp32 anyway, and -infinity would meet a zero. NaN passes.
  v = v < -64.0f ? -64.0f : v;
  const float u = kSqrt2OverPi * v * fmaf(kCubic * v, v, 1.0f);
  return v * reciprocal_approx(1.0f + exp2_approx(kMinus2Log2E * u));
}

/// v sigmoid(v). Below -64, where it is above -1.1e-26, v counts as -64: exp would overflow.
__device__ inline float silu(float v) {
  constexpr float kMinusLog2E = -1.442695041f;
  v = v < -64.0f ? -64.0f : v;
  return v * reciprocal_approx(1.0f + exp2_approx(kMinusLog2E * v));
}

/// Four floats to e4m3, rounded to nearest and cut to 448; the first in the lowest byte.
__device__ __forceinline__ std::uint32_t to_e4m3x4(float2 low, float2 high) {
  std::uint32_t codes;
  asm("{\n.reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n}"
      : "=r"(codes)
      : "f"(low.x), "f"(low.y), "f"(high.x), "f"(high.y));
  return codes;
}

}  // namespace rtlynx::device
