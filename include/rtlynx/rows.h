// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "rtlynx/matrix.h"

/// What a transformer block does between its Linears, row by row: residual and gate, norms,
/// modulation, the norm and rotation of q and k, and SwiGLU. Element type f16 or bf16 on a GPU, any
/// on the host; sums in fp32.
namespace rtlynx {

enum class Norm : std::uint8_t {
  layer,  // mean of the row, rate = 1 / sqrt(variance + eps)
  rms,    // mean 0, rate = 1 / sqrt(mean of squares + eps)
};

/// Mean and rate of each row of x [M, N] -> moments [M, 2].
struct Moments {
  ConstMatrixView x = {};
  Norm norm = Norm::layer;
  float eps = 1e-6f;
  float* moments = nullptr;  // out
};

/// A row of the residual stream on its way from one Linear to the next:
///
///   p = post_weight ? (y * rate of y) * post_weight : y      (RMS, post_eps)
///   h = x + g * p,   g = gate, or tanh(gate), or 1 without one
///   n = (h - mean of h) * rate of h * weight * (1 + scale) + shift
///
/// h is rounded once to the element type, f16 clipped to its finite range as diffusers does;
/// moments and n are of the rounded h; p is not rounded.
/// What is not given is left out, what is not wanted is not written.
struct ResidualNorm {
  ConstMatrixView x = {};     // [M, N]
  ConstMatrixView y = {};     // [M, N]; no rows: h = x
  ConstMatrixView gate = {};  // [G, N]; no rows: ones
  bool tanh_gate = false;
  const void* post_weight = nullptr;  // [N], element type; null: p = y
  float post_eps = 1e-6f;
  std::int64_t image_tokens = 0;  // tokens that share a row of gate, scale and shift; 0: all

  MatrixView h = {};  // out: [M, N]; may be x itself; no rows: not wanted

  Norm norm = Norm::layer;
  float eps = 1e-6f;
  float* moments = nullptr;      // out: [M, 2], mean and rate of h; null: not wanted
  const void* weight = nullptr;  // [N]; null: ones
  ConstMatrixView scale = {};    // [G, N]; no rows: zeros
  ConstMatrixView shift = {};    // [G, N]; no rows: zeros
  MatrixView normed = {};        // out: n [M, N]; no rows: not wanted
};

/// Heads of one token stream for attention. q and k are RMS-normed over each head and rotated; v is
/// copied. Every view is [B * tokens, heads * head_dim].
struct HeadStream {
  std::int64_t tokens = 0;  // of each image
  ConstMatrixView q = {}, k = {};
  ConstMatrixView v = {};          // no rows: not wanted
  const void* q_weight = nullptr;  // [head_dim], element type; null: ones
  const void* k_weight = nullptr;
};

/// Joint attention's q, k and v: the tokens of stream 0 of each image, then those of stream 1.
///
///   r = x * rate of its head, rounded;  r' = r * weight, rounded;  pairs (2i, 2i + 1) of r' turned
///   by the token's angles in fp32, rounded.
///
/// The roundings are those of diffusers' RMSNorm and apply_rotary_emb, so that the same bits come
/// out where the sums agree.
struct HeadNorm {
  std::array<HeadStream, 2> streams = {};
  int stream_count = 1;
  std::int64_t images = 1;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;  // a multiple of 8, at most 256
  float eps = 1e-6f;
  const float* rotation = nullptr;  // [S, head_dim / 2, 2]: cosine and sine, S tokens of an image
                                    // in all streams; null: not turned
  MatrixView q = {}, k = {};        // out: [B * S, heads * head_dim]
  MatrixView v = {};                // out; no rows: not wanted
};

/// Z-Image's gate: y = silu(gate) * up, computed in fp32 and rounded once, as the producer of
/// pack24.h does.
struct Swiglu {
  ConstMatrixView gate = {};  // [M, N]
  ConstMatrixView up = {};    // [M, N]
  MatrixView y = {};          // out: [M, N]
};

/// Rows to e4m3, each in a unit of its own: for dense products of codes and for those of
/// rtlynx/weight24.h.
///
///   unit = max|x| / 448 (1 for zeros, at least 2^-126);  codes = e4m3(x * (1 / unit))
///
/// in fp32, bit for bit on every device. A NaN becomes a NaN and counts for nothing in the largest;
/// of a row with an infinity the unit is infinite and the codes are zero or NaN.
struct Quantize {
  ConstMatrixView x = {};  // [M, K]
  MatrixView codes = {};   // out: [M, K] e4m3
  float* unit = nullptr;   // out: [M]
};

/// The specifications, on host memory. Throw Error for shapes and types that disagree.
void moments(const Moments& problem);
void residual_norm(const ResidualNorm& problem);
void head_norm(const HeadNorm& problem);
void swiglu(const Swiglu& problem);
void quantize(const Quantize& problem);

}  // namespace rtlynx
