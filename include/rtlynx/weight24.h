// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "rtlynx/compress24.h"
#include "rtlynx/product24.h"

/// Linears whose weight is the 2:4-sparse operand and whose input is dense (host memory). Nothing
/// is selected online: the weight was pruned before, by any method that leaves two of four.
namespace rtlynx {

/// Compresses a weight W [N, K] that is 2:4 already, without loss: expand24 gives W again, but for
/// the sign of zeros. Its rows are the "tokens" of compress24 and of the operand (operand24.h),
/// into which to_operand24 brings it as it is. W is of any type, e4m3 included; `out.scale` must be
/// null. Throws Error, before anything is written, if a group of four channels has more than two
/// that are not zero, naming its row and group.
void compress_weight24(ConstMatrixView w, Compressed24 out);

/// What the products read.
struct DenseInput24 {
  ConstMatrixView x = {};        // [M, K], element type or e4m3
  const float* scale = nullptr;  // [M]: the unit of a token's codes; null: ones
  ConstMatrixView low = {};      // [M, columns], element type: X down, in the unit of the codes
};

/// One of the sparse weights W~ that read an input, and its result:
///
///   Y = residual + gate * act(u * (X W~^T + low up^T) + bias),  u = token scale * output scale
///
/// Rounding: u once in fp32; the rest as in product24.h, with u for s: both products exact or
/// rounded in fp32 and summed in one fp32 accumulator, the order open; one fused multiply-add;
/// activation, gate and residual in fp32; one rounding to the type of Y.
struct WeightProduct24 {
  ConstMatrixView values = {};              // [N, K/2], type of X
  const std::uint16_t* metadata = nullptr;  // [N, K/16]
  const void* operand = nullptr;            // on a GPU: both, by to_operand24. Of `values` the GPU
                                            // reads shape and type alone
  const float* scale = nullptr;             // [N]: the unit of an output's codes; null: ones
  ConstMatrixView up = {};                  // [N, r], element type, in the unit of the codes
  std::int64_t low_column = 0;              // the first of the r columns of low that `up` reads
  const void* bias = nullptr;               // [N]; null: zeros
  DType bias_dtype = DType::f32;            // f32, or the element type
  Activation activation = Activation::none;
  ConstMatrixView gate = {};      // [G, N], element type; no rows: ones
  std::int64_t image_tokens = 0;  // tokens that share a row of gate, G = ceil(M / this); 0: all
  ConstMatrixView residual = {};  // [M, N], element type; may be y itself; no rows: zeros
  MatrixView y = {};              // out: [M, N], element type
};

/// The specification: plain loops. Input channels whose weight is dropped are not multiplied: an
/// infinity there does no harm. Throws Error, before anything is written, if shapes or element
/// types disagree, or metadata is none that compress_weight24 gives.
void weight_product24(const DenseInput24& input, std::span<const WeightProduct24> products);

}  // namespace rtlynx
