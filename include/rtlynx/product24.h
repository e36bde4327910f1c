// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "rtlynx/pack24.h"

/// Linears on a packed input: section 3 of RT-Lynx (arXiv 2605.26632) with s moved out of the
/// product.
namespace rtlynx {

enum class Activation : std::uint8_t { none, gelu };  // gelu: the tanh formula

/// One of the weights that read a packed input, and its result:
///
///   Y = residual + gate * act(s * (Z~ W^T + (H / s) up^T) + bias)
///
/// With e4m3 values W is e4m3 as well, and up, in the element type, is in the unit of its codes:
/// s stands for the scale that pack24() gave, which carries the units of both.
///
/// Rounding: both products exact or rounded in fp32 and summed in one fp32 accumulator, the order
/// open; one fused multiply-add s * acc + bias in fp32; activation, gate and residual in fp32; one
/// rounding to the type of Y.
struct Product24 {
  ConstMatrixView weight = {};    // W [N, K], type of the packed values
  ConstMatrixView up = {};        // L_up transposed [N, r]; no columns: no low rank
  std::int64_t low_column = 0;    // the first of the r columns of H / s that `up` reads
  const void* bias = nullptr;     // [N]; null: zeros
  DType bias_dtype = DType::f32;  // f32, or the element type
  Activation activation = Activation::none;
  ConstMatrixView gate = {};      // [G, N], element type; no rows: ones
  std::int64_t image_tokens = 0;  // tokens that share a row of gate, G = ceil(M / this); 0: all
  ConstMatrixView residual = {};  // [M, N], element type; may be y itself; no rows: zeros
  MatrixView y = {};              // out: [M, N], element type
  float* largest = nullptr;       // in and out: [M], raised to the largest |Y| of each token, NaN
                                  // the largest of all; null: not wanted
};

/// The specification: plain loops on host memory. Throws Error, before anything is written, if
/// shapes or element types disagree, or metadata is none that pack24 gives.
void product24(const Packed24& packed, std::span<const Product24> products);

}  // namespace rtlynx
