// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rtlynx/matrix.h"

/// Online 2:4 sparsity of activations on the CPU (host memory).
///
/// Selection. Of every group of 4 consecutive channels of a token the 2 of largest magnitude stay.
/// This is decided bit for bit, and every implementation agrees on it:
///   - equal magnitudes: the lower channel wins; -0 equals +0;
///   - NaN exceeds everything, infinity included; all NaN are equal;
///   - so an all-zero group keeps channels 0 and 1.
/// Kept elements keep their bits, the sign of zero and NaN payloads included; dropped ones are +0.
///
/// Scale. s = ||x|| / ||x~|| per token, x~ being what selection leaves of x (RT-Lynx,
/// arXiv 2605.26632, section 3, without the paper's epsilon, which destroys tokens of small norm).
/// It is evaluated in fp32 as sqrt(1 + dropped / kept), two sums of squares taken after dividing by
/// the token's largest magnitude, so that tiny and huge tokens are safe. 1 <= s <= sqrt 2, but for
/// rounding. s is exactly 1 if only zeros were dropped, and for a token with a NaN or an infinity.
/// The order of summation is open: implementations agree to fp32 summation error.
namespace rtlynx {

/// A compressed activation. Two kept elements per group, in channel order, and one nibble per group
/// that says which: i0 | i1 << 2 with i0 < i1, so one of 0x4, 0x8, 0xC, 0x9, 0xD, 0xE.
struct Compressed24 {
  MatrixView values;                  // [M, K/2], element type of X
  std::uint16_t* metadata = nullptr;  // [M, K/16], contiguous; lowest nibble = lowest channels
  float* scale = nullptr;             // [M]; null: not wanted
};

/// Compresses X [M, K]. Throws Error unless K is divisible by 16 and `out` has the shapes above.
void compress24(ConstMatrixView x, Compressed24 out);

/// Expands compressed values [M, K/2] and metadata [M, K/16] to X~ [M, K] with zeros: the exact
/// inverse of compress24. Throws Error if a nibble is none of the six, naming its row and group.
void expand24(ConstMatrixView values, const std::uint16_t* metadata, MatrixView x);

/// X [M, K] to X~ [M, K] with zeros, and s [M] (null: not wanted), in one fast pass. X~ has the
/// bits that compress24 and expand24 give. Single-threaded: split the rows with slice_rows() to use
/// more cores. Throws Error unless K is divisible by 4 and the shapes and element types agree.
void sparsify24(ConstMatrixView x, MatrixView kept, float* scale);

}  // namespace rtlynx
