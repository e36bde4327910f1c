// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rtlynx/compress24.h"
#include "rtlynx/matrix.h"

/// One input of several Linears, packed once for all of them.
namespace rtlynx {

/// What computes the input from X while it is being read.
enum class Producer : std::uint8_t {
  none,    // z = x
  gelu,    // z = GELU(x), the tanh formula
  swiglu,  // z = SiLU(x) * up
  norm,    // z = (x - mean) * rate * weight * (1 + modulation_scale) + modulation_shift
};

/// The input z [M, K] of Linears, as what it is made of. Every product and sum in fp32; z is
/// rounded to the element type once behind the producer, and once behind the transform. Host or
/// device memory, as the function says that takes it.
struct Pack24 {
  ConstMatrixView x;     // [M, K - tail.columns], any DType on the host, f16 or bf16 on a GPU
  ConstMatrixView tail;  // [M, K2]: the last channels of the input, if they lie elsewhere: behind a
                         // multiple of 128 in x, and without a producer
  Producer producer = Producer::none;
  ConstMatrixView up;  // swiglu: [M, K]

  // norm. LayerNorm and RMSNorm differ in their moments (rtlynx/rows.h).
  const float* moments = nullptr;    // [M, 2]: mean and rate, 1 / standard deviation
  const void* weight = nullptr;      // [K], element type; null: ones
  ConstMatrixView modulation_scale;  // [G, K], element type; no rows: zeros
  ConstMatrixView modulation_shift;  // [G, K], element type; no rows: zeros
  std::int64_t image_tokens = 0;     // tokens that share a row of the two, G = ceil(M / this);
                                     // 0: all

  /// Block-diagonal transform z' = z A before the choice, blocks of 16, 64 or 128 channels:
  /// [K / block, block, block], transform[b][o][i] the weight of input i in output o (A
  /// transposed), element type. Null: none.
  const void* transform = nullptr;
  int transform_block = 0;

  bool restores_norm = true;  // false: s = 1
  ConstMatrixView down;       // [R, K]: L_down transposed of all Linears, one below the other;
                              // no rows: no low rank
};

/// The packed input on the host: the compressed z (rtlynx/compress24.h), s, and H / s.
struct Packed24 {
  MatrixView values;                  // [M, K/2], element type of X
  std::uint16_t* metadata = nullptr;  // [M, K/16], contiguous
  float* scale = nullptr;             // [M]
  MatrixView low;                     // [M, R], element type: (z down^T) / s, rounded once
};

/// The specification of packing: plain loops on host memory, the order of summation open. Throws
/// Error, before anything is written, for shapes and types that disagree, K not divisible by 16, or
/// a transform whose block does not divide K.
void pack24(const Pack24& input, const Packed24& packed);

/// The same up to the choice: z [M, K], element type of X.
void produce24(const Pack24& input, MatrixView z);

}  // namespace rtlynx
