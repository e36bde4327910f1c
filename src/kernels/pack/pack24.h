// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/pack/params.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::pack {

/// Which kernel packs: the fastest for the device and the transform, or the one of sm_80.
enum class Kernel : std::uint8_t { fastest, portable };

/// gpu::pack24 by a kernel of choice. `z`: also what the selection saw, [M, K], contiguous; null:
/// not wanted. For tests, which compare both with the specification.
void pack24_by(Kernel kernel, const Pack24& input, const gpu::PackedInput& packed,
               const gpu::Workspace& workspace, cudaStream_t stream, void* z);

/// What a launch needs beside the problem.
struct Launch {
  void* workspace;
  gpu::DeviceTraits device;
  cudaStream_t stream;
};

namespace sm80 {
cudaError_t launch_bf16(const Params& params, const Launch& launch);
cudaError_t launch_f16(const Params& params, const Launch& launch);
}  // namespace sm80

namespace sm90 {
// A file each: they take long to compile.
template <typename Element>
cudaError_t launch_none(const Params& params, const Launch& launch);
template <typename Element>
cudaError_t launch_gelu(const Params& params, const Launch& launch);
template <typename Element>
cudaError_t launch_swiglu(const Params& params, const Launch& launch);
template <typename Element>
cudaError_t launch_norm(const Params& params, const Launch& launch);
}  // namespace sm90

}  // namespace rtlynx::pack
