// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rtlynx/gpu/gemm24.h"

namespace rtlynx {

/// Runs a checked problem on sm_90a: `config` of path sm90, `multiprocessors` of the current
/// device. Returns cudaErrorInvalidValue for a configuration that was not built.
cudaError_t launch_gemm24_sm90(const gpu::Gemm24& problem, const gpu::Gemm24Config& config,
                               int multiprocessors, cudaStream_t stream);

}  // namespace rtlynx
