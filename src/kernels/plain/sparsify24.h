// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"

namespace rtlynx {

/// X [M, K] to X~ [M, K] with zeros, and s [M]: what rtlynx::sparsify24 of compress24.h specifies,
/// on the GPU. X~ has the specification's bits; s agrees to fp32 summation error.
struct Sparsify24 {
  const void* x = nullptr;  // [M, K], row-major, contiguous
  void* kept = nullptr;     // [M, K], the same; never overlaps x
  float* scale = nullptr;   // [M]; null: not wanted
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // K, divisible by 4
};

/// The plain path: it writes the zeros out for a dense GEMM to multiply, so it saves no time. The
/// compressed kernels that feed the Sparse Tensor Cores take its place. Asynchronous on `stream`
/// of the current device; allocates nothing. Returns cudaErrorInvalidValue for a K not divisible
/// by 4, else what the launch returns.
cudaError_t launch_sparsify24(const Sparsify24& problem, cudaStream_t stream);

}  // namespace rtlynx
