// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rtlynx/gpu/gemm24.h"

namespace rtlynx {

/// The product of rtlynx/gpu/gemm24.h by mma.sp: any GPU of sm_80 or later. Needs no workspace.
/// Asynchronous on `stream` of the current device; allocates nothing. Returns cudaErrorInvalidValue
/// for a problem that breaks the header's rules, segments that end inside a tile of 128 outputs
/// included, else what the launch returns.
cudaError_t launch_gemm24_sm80(const gpu::Gemm24& problem, cudaStream_t stream);

}  // namespace rtlynx
