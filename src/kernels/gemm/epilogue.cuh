// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/device/element.cuh"
#include "kernels/device/math.cuh"
#include "rtlynx/gpu/gemm24.h"

/// Y = residual + gate * act(s * acc + bias), element by element in fp32: what every GEMM kernel
/// does to its accumulators before the one rounding.
namespace rtlynx {

struct EpilogueParams {
  const float* scale;  // [M]; null: ones
  const float* bias;   // [N]; null: zeros
  gpu::Activation activation;
  const void* gate;           // [ceil(M / image_tokens), N]; null: ones
  std::int64_t image_tokens;  // 1 .. M
  const void* residual;       // [M, N]; null: zeros. May be Y: read an element before writing it
  std::int64_t tokens;        // M
  std::int64_t outputs;       // N
};

inline EpilogueParams epilogue_params(const gpu::Gemm24& problem) {
  const std::int64_t tokens = problem.shape.tokens;
  return {
      .scale = problem.scale,
      .bias = problem.bias,
      .activation = problem.activation,
      .gate = problem.gate,
      .image_tokens = problem.image_tokens > 0 ? std::min(problem.image_tokens, tokens) : tokens,
      .residual = problem.residual,
      .tokens = tokens,
      .outputs = problem.shape.outputs};
}

/// What the elements of one row share, so that it is looked up once.
template <typename Element>
struct EpilogueRow {
  using Bits = typename Element::Bits;
  float scale;
  const Bits* gate;      // [N]; null: ones
  const Bits* residual;  // [N]; null: zeros
};

/// `row` < M. M fits 32 bits, as a grid does.
template <typename Element>
__device__ EpilogueRow<Element> epilogue_row(const EpilogueParams& params, int row) {
  using Bits = typename Element::Bits;
  EpilogueRow<Element> result{.scale = 1.0f, .gate = nullptr, .residual = nullptr};
  if (params.scale != nullptr) result.scale = params.scale[row];
  if (params.gate != nullptr) {
    const unsigned image = static_cast<unsigned>(row) / static_cast<unsigned>(params.image_tokens);
    result.gate = static_cast<const Bits*>(params.gate) + image * params.outputs;
  }
  if (params.residual != nullptr) {
    result.residual = static_cast<const Bits*>(params.residual) + row * params.outputs;
  }
  return result;
}

/// bias[column], bias[column + 1]; `column` even, both < N.
__device__ inline float2 epilogue_bias(const EpilogueParams& params, int column) {
  if (params.bias == nullptr) return {0.0f, 0.0f};
  return *reinterpret_cast<const float2*>(params.bias + column);
}

/// What precedes gate and residual.
__device__ inline float2 scale_and_activate(float2 acc, gpu::Activation activation, float scale,
                                            float2 bias) {
  const float2 v{fmaf(scale, acc.x, bias.x), fmaf(scale, acc.y, bias.y)};
  if (activation == gpu::Activation::none) return v;
  return {device::gelu_tanh(v.x), device::gelu_tanh(v.y)};
}

template <typename Element>
__device__ float2 multiply_pair(float2 v, std::uint32_t gate) {
  const float2 factor = Element::to_float2(gate);
  return {v.x * factor.x, v.y * factor.y};
}

template <typename Element>
__device__ float2 add_pair(float2 v, std::uint32_t residual) {
  const float2 summand = Element::to_float2(residual);
  return {v.x + summand.x, v.y + summand.y};
}

/// The accumulators of (row, column) and (row, column + 1), `column` even, to elements of Y.
template <typename Element>
__device__ float2 epilogue_pair(float2 acc, gpu::Activation activation,
                                const EpilogueRow<Element>& row, int column, float2 bias) {
  using Pair = const std::uint32_t*;
  float2 v = scale_and_activate(acc, activation, row.scale, bias);
  if (row.gate != nullptr) {
    v = multiply_pair<Element>(v, *reinterpret_cast<Pair>(row.gate + column));
  }
  if (row.residual != nullptr) {
    v = add_pair<Element>(v, *reinterpret_cast<Pair>(row.residual + column));
  }
  return v;
}

/// The same for eight neighbours from a `column` divisible by 8: one access of 16 bytes each for
/// gate, residual and, the caller's, Y. Returns the rounded elements.
template <typename Element>
__device__ uint4 epilogue_eight(const float2 (&acc)[4], gpu::Activation activation,
                                const EpilogueRow<Element>& row, int column,
                                const float2 (&bias)[4]) {
  float2 v[4];
  for (int i = 0; i < 4; ++i) v[i] = scale_and_activate(acc[i], activation, row.scale, bias[i]);
  if (row.gate != nullptr) {
    const uint4 gate = *reinterpret_cast<const uint4*>(row.gate + column);
    v[0] = multiply_pair<Element>(v[0], gate.x);
    v[1] = multiply_pair<Element>(v[1], gate.y);
    v[2] = multiply_pair<Element>(v[2], gate.z);
    v[3] = multiply_pair<Element>(v[3], gate.w);
  }
  if (row.residual != nullptr) {
    const uint4 residual = *reinterpret_cast<const uint4*>(row.residual + column);
    v[0] = add_pair<Element>(v[0], residual.x);
    v[1] = add_pair<Element>(v[1], residual.y);
    v[2] = add_pair<Element>(v[2], residual.z);
    v[3] = add_pair<Element>(v[3], residual.w);
  }
  return {Element::from_float2(v[0]), Element::from_float2(v[1]), Element::from_float2(v[2]),
          Element::from_float2(v[3])};
}

}  // namespace rtlynx
