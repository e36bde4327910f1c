// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/pack/params.h"
#include "rtlynx/dtype.h"

namespace rtlynx {

/// Whether the kernel for Hopper takes the problem. The portable one does the rest: other GPUs,
/// what asks for it, and transforms of 16 channels.
bool pack24_runs_on_hopper(const pack::Params& params, int compute_capability);

/// Runs a checked problem on the current device. Asynchronous, allocates no device memory.
cudaError_t launch_pack24(DType dtype, const pack::Params& params, int compute_capability,
                          cudaStream_t stream);

namespace pack {
namespace sm80 {
cudaError_t launch_bf16(const Params& params, cudaStream_t stream);
cudaError_t launch_f16(const Params& params, cudaStream_t stream);
}  // namespace sm80
namespace sm90 {
cudaError_t launch_bf16(const Params& params, cudaStream_t stream);
cudaError_t launch_f16(const Params& params, cudaStream_t stream);
}  // namespace sm90
}  // namespace pack

}  // namespace rtlynx
