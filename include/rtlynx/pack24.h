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
  ConstMatrixView x = {};     // [M, K - tail.columns], any DType on the host, f16 or bf16 on a GPU
  ConstMatrixView tail = {};  // [M, K2]: the last channels of the input, if they lie elsewhere:
                              // behind a multiple of 128 in x, and without a producer
  Producer producer = Producer::none;
  ConstMatrixView up = {};  // swiglu: [M, K]

  // norm. LayerNorm and RMSNorm differ in their moments (rtlynx/rows.h).
  const float* moments = nullptr;         // [M, 2]: mean and rate, 1 / standard deviation
  const void* weight = nullptr;           // [K], element type; null: ones
  ConstMatrixView modulation_scale = {};  // [G, K], element type; no rows: zeros
  ConstMatrixView modulation_shift = {};  // [G, K], element type; no rows: zeros
  std::int64_t image_tokens = 0;          // tokens that share a row of the two, G = ceil(M / this);
                                          // 0: all

  /// Block-diagonal transform z' = z A before the choice, blocks of 16, 64 or 128 channels:
  /// [K / block, block, block], transform[b][o][i] the weight of input i in output o (A
  /// transposed), element type. Null: none.
  const void* transform = nullptr;
  int transform_block = 0;

  bool restores_norm = true;  // false: s = 1

  /// [M]: the kept values leave as e4m3, multiplied by the token's factor in fp32 and rounded; see
  /// code_factors(). The choice and s are those of z itself. Null: in the element type.
  const float* code_factor = nullptr;
  float weight_unit = 1.0f;  // with it: what a 1 in the e4m3 weights stands for

  /// For code_factors, not for a norm: [M], upper bounds of the magnitudes of X (of swiglu: of
  /// X * up) and of the tail, as product24() gives them. Null: read them.
  const float* limit = nullptr;
  const float* tail_limit = nullptr;

  /// [R, K]: L_down transposed of all Linears, one below the other; no rows: no low rank. It reads
  /// the input before the transform, while that runs: of an L_down that is to read z, pass the rows
  /// of L_down A^T.
  ConstMatrixView down = {};
};

/// The packed input on the host: the compressed z (rtlynx/compress24.h), what its product is
/// multiplied by, and H in units of what a 1 in the values stands for: s, of e4m3 s / code_factor.
struct Packed24 {
  MatrixView values = {};             // [M, K/2], element type of X, or e4m3
  std::uint16_t* metadata = nullptr;  // [M, K/16], contiguous
  float* scale = nullptr;  // [M]: s, of e4m3 values (s / code_factor) weight_unit in fp32
  MatrixView low = {};     // [M, R], element type: (input down^T) / that unit, rounded once
};

/// The specification of packing: plain loops on host memory, the order of summation open. Throws
/// Error, before anything is written, for shapes and types that disagree, K not divisible by 16, or
/// a transform whose block does not divide K.
void pack24(const Pack24& input, const Packed24& packed);

/// The same up to the choice: z [M, K], element type of X.
void produce24(const Pack24& input, MatrixView z);

/// Factors [M] by which no element of z leaves the range of e4m3: the largest power of two up to
/// 448 / limit, limit an upper bound of the token's magnitudes. e4m3 has the same relative error
/// over four decades, so that the bound need not be tight; and by a power of two a code is z
/// rounded, whatever the bound was:
///
///   none, gelu, swiglu: limit = max |z|, before a transform; of what has one, its given limit
///   norm:               limit = sqrt(K) max |weight (1 + scale)| + max |shift|, as a row that was
///                       divided by its root mean square has no element beyond sqrt(K)
///   transform:          limit * sqrt(block) * transform_gain
///
/// `transform_gain`: the largest Euclidean norm of a row of the transform, 1 if it is orthogonal.
/// 1 for a token of zeros, at most 2^126. A token with an infinity gets 0 and one with a NaN gets
/// NaN, so that what is made of either is NaN and not a number that looks right.
void code_factors(const Pack24& input, float transform_gain, float* factors);

}  // namespace rtlynx
