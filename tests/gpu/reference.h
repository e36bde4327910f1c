// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rtlynx/dtype.h"
#include "rtlynx/gpu/gemm24.h"

/// What the GPU kernels are compared with where the CPU would take too long: plain kernels. All
/// pointers are device memory; everything runs on the default stream. Throws Error if CUDA fails.
namespace rtlynx::testing {

/// Normally distributed elements, f16 or bf16; the same seed gives the same elements.
void fill_normal(void* data, DType dtype, std::int64_t count, std::uint32_t seed,
                 float deviation = 1.0f);

/// Integers from -largest to largest.
void fill_integers(void* data, DType dtype, std::int64_t count, std::uint32_t seed, int largest);

void fill_uniform(float* data, std::int64_t count, std::uint32_t seed, float low, float high);

/// sums [M, N] = X~ W^T + low up^T: the products of `problem`, whose operand is not read. `kept` is
/// X~ [M, K], contiguous, with its zeros.
void multiply(const gpu::Gemm24& problem, const void* kept, double* sums);

/// The same in fp32, one fused multiply-add after the other: a stand-in for a dense product of the
/// same precision.
void multiply(const gpu::Gemm24& problem, const void* kept, float* sums);

/// How far from the exact result Y lies, and how far the baseline: the fp32 sums, finished in fp32
/// and rounded once to the type of Y.
struct Errors {
  double exact_squares = 0;  // sums over the elements
  double error_squares = 0;
  double baseline_squares = 0;
  double largest_error = 0;
  double largest_baseline = 0;
  unsigned long long differing = 0;  // elements of Y that have other bits than the baseline
};

/// Y of `problem` against its sums in both precisions. `problem.residual` is read: where the call
/// worked in place, point it at a copy.
Errors compare(const gpu::Gemm24& problem, const double* exact_sums, const float* baseline_sums);

}  // namespace rtlynx::testing
