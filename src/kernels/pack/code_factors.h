// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/pack/params.h"
#include "rtlynx/dtype.h"

namespace rtlynx::pack {

struct FactorParams {
  Params input;
  float spread;              // sqrt(block of the transform), 1 without one
  float gain;                // of the transform
  float* factors;            // [M]
  const float* limit;        // [M], of X; null: read it
  const float* tail_limit;   // [M]; null: read the tail, if there is one
  int first_read, end_read;  // vectors of eight channels that have no limit
};

/// gpu::code_factors of arguments that were checked.
cudaError_t launch_code_factors(DType dtype, const FactorParams& params, int compute_capability,
                                cudaStream_t stream);

}  // namespace rtlynx::pack
