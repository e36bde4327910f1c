// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rtlynx/matrix.h"

namespace rtlynx {

/// The packed operand (rtlynx/operand24.h) of X~ [M, K] to X~ itself, zeros included. `kept` gives
/// M, K, a multiple of 16, and the 16-bit type; its data are 16-byte aligned and its row stride a
/// multiple of 8. Asynchronous on `stream` of the current device; allocates nothing. Returns
/// cudaErrorInvalidValue for a matrix that breaks these rules, else what the launch returns.
cudaError_t launch_unpack24(const void* operand, MatrixView kept, cudaStream_t stream);

}  // namespace rtlynx
