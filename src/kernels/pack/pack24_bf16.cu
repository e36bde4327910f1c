// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/pack24_launch.cuh"

namespace rtlynx::pack {

cudaError_t launch_bf16(const Params& params, int cluster, cudaStream_t stream) {
  return launch<Bf16>(params, cluster, stream);
}

}  // namespace rtlynx::pack
