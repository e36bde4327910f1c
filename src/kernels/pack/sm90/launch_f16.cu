// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm90/launch.cuh"

namespace rtlynx::pack::sm90 {

cudaError_t launch_f16(const Params& params, cudaStream_t stream) {
  return launch<F16>(params, stream);
}

}  // namespace rtlynx::pack::sm90
