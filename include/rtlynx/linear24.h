// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rtlynx/matrix.h"

/// A linear layer with online 2:4 activation sparsity on the CPU (host memory): the specification
/// that the GPU kernels are tested against. Plain loops, written for reading, not for speed.
namespace rtlynx {

/// Y = s * (X~ W^T + (H / s) L_up) + bias with H = X L_down: section 3 of RT-Lynx (arXiv
/// 2605.26632) with s moved out of the product. pack24.h defines X~ and s.
///
/// Rounding: H in fp32; H / s rounded once to the element type (beyond the range of f16 it becomes
/// infinite); both products exact or rounded in fp32 and summed in one fp32 accumulator; one fused
/// multiply-add s * acc + bias in fp32; one rounding to the type of Y. The order of summation is
/// open.
struct Linear24 {
  ConstMatrixView x;            // [M, K], any DType; K divisible by 4
  ConstMatrixView weight;       // [N, K], element type of x
  ConstMatrixView down;         // [R, K], L_down transposed, element type of x; empty: rank 0
  ConstMatrixView up;           // [N, R], L_up transposed, element type of x; empty: rank 0
  const float* bias = nullptr;  // [N], always fp32: 16-bit biases widen to it exactly; null: none
  bool norm = true;             // false: s = 1
};

/// Computes Y [M, N], of any DType. Throws Error, before anything is written, if shapes or element
/// types disagree.
void linear24(const Linear24& layer, MatrixView y);

}  // namespace rtlynx
