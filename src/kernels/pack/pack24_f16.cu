// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/pack24_launch.cuh"

namespace rtlynx::pack {

cudaError_t launch_f16(const Params& params, int cluster, cudaStream_t stream) {
  return launch<F16>(params, cluster, stream);
}

}  // namespace rtlynx::pack
