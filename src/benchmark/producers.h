// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rtlynx/pack24.h"

namespace rtlynx::benchmark {

/// What a model without sparsity runs before a Linear behind GELU or SwiGLU: one kernel, bound by
/// memory, by the formulas of Producer. `source`: contiguous, K a multiple of 8; -> z [M, K]. (The
/// norm's is gpu::residual_norm.)
void run_elementwise(const Pack24& source, MatrixView z, cudaStream_t stream);

}  // namespace rtlynx::benchmark
