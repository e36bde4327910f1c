// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/pack/params.h"
#include "rtlynx/dtype.h"

namespace rtlynx {

/// CTAs that share the channels of 64 tokens: a power of two, at most 8, as many as run at once.
/// Before sm_90, where CTAs cannot add up what they did, 1.
int pack24_cluster(const pack::Params& params, int compute_capability, int multiprocessors);

/// Runs a checked problem; `cluster` as above. Asynchronous, allocates nothing.
cudaError_t launch_pack24(DType dtype, const pack::Params& params, int cluster,
                          cudaStream_t stream);

namespace pack {
cudaError_t launch_bf16(const Params& params, int cluster, cudaStream_t stream);
cudaError_t launch_f16(const Params& params, int cluster, cudaStream_t stream);
}  // namespace pack

}  // namespace rtlynx
