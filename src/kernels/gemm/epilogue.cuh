// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/device/element.cuh"
#include "kernels/device/math.cuh"
#include "rtlynx/gpu/product24.h"
#include "rtlynx/weight24.h"

/// Y = residual + gate * act(s * acc + bias), of a sparse weight with its scale in s, element by
/// element in fp32: what every GEMM kernel does to its accumulators before the one rounding.
namespace rtlynx {

struct EpilogueParams {
  const float* scale;         // [M]; of a sparse weight null: ones
  const float* output_scale;  // [N]: a sparse weight's alone; null: ones
  const void* bias;           // [N]; null: zeros
  bool bias_is_f32;           // else of the element type
  Activation activation;
  const void* gate;           // [ceil(M / image_tokens), N]; null: ones
  std::int64_t gate_stride;   // elements between rows
  std::int64_t image_tokens;  // 1 .. M
  const void* residual;       // [M, N]; null: zeros. May be Y: read an element before writing it
  std::int64_t residual_stride;
  int tokens;      // M
  int outputs;     // N
  float* largest;  // [M]; null: not wanted
};

/// What both kinds of product have. Product: Product24 or WeightProduct24.
template <typename Product>
EpilogueParams epilogue_params(const Product& product, const float* scale, std::int64_t outputs) {
  const std::int64_t tokens = product.y.rows, image = product.image_tokens;
  return {.scale = scale,
          .output_scale = nullptr,
          .bias = product.bias,
          .bias_is_f32 = product.bias_dtype == DType::f32,
          .activation = product.activation,
          .gate = product.gate.rows > 0 ? product.gate.data : nullptr,
          .gate_stride = product.gate.row_stride,
          .image_tokens = image > 0 ? std::min(image, tokens) : tokens,
          .residual = product.residual.rows > 0 ? product.residual.data : nullptr,
          .residual_stride = product.residual.row_stride,
          .tokens = static_cast<int>(tokens),
          .outputs = static_cast<int>(outputs),
          .largest = nullptr};
}

inline EpilogueParams epilogue_params(const gpu::PackedInput& packed, const Product24& product) {
  EpilogueParams params = epilogue_params(product, packed.scale, product.weight.rows);
  params.largest = product.largest;
  return params;
}

inline EpilogueParams epilogue_params(const DenseInput24& input, const WeightProduct24& product) {
  EpilogueParams params = epilogue_params(product, input.scale, product.values.rows);
  params.output_scale = product.scale;
  return params;
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
  EpilogueRow<Element> result{.scale = params.scale[row], .gate = nullptr, .residual = nullptr};
  if (params.gate != nullptr) {
    const unsigned image = static_cast<unsigned>(row) / static_cast<unsigned>(params.image_tokens);
    result.gate = static_cast<const Bits*>(params.gate) + image * params.gate_stride;
  }
  if (params.residual != nullptr) {
    result.residual = static_cast<const Bits*>(params.residual) + row * params.residual_stride;
  }
  return result;
}

/// bias[column], bias[column + 1]; `column` even, both < N.
template <typename Element>
__device__ float2 epilogue_bias(const EpilogueParams& params, int column) {
  if (params.bias == nullptr) return {0.0f, 0.0f};
  if (params.bias_is_f32) {
    return *reinterpret_cast<const float2*>(static_cast<const float*>(params.bias) + column);
  }
  const auto* const bias = static_cast<const typename Element::Bits*>(params.bias);
  return Element::to_float2(*reinterpret_cast<const std::uint32_t*>(bias + column));
}

/// What precedes gate and residual.
__device__ inline float2 scale_and_activate(float2 acc, Activation activation, float scale,
                                            float2 bias) {
  const float2 v{fmaf(scale, acc.x, bias.x), fmaf(scale, acc.y, bias.y)};
  if (activation == Activation::none) return v;
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
__device__ float2 epilogue_pair(float2 acc, Activation activation, const EpilogueRow<Element>& row,
                                int column, float2 bias) {
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
__device__ uint4 epilogue_eight(const float2 (&acc)[4], Activation activation,
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
