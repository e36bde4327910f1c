// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm80/launch.cuh"

namespace rtlynx::pack::sm80 {

cudaError_t launch_bf16(const Params& params, cudaStream_t stream) {
  return launch<Bf16>(params, stream);
}

}  // namespace rtlynx::pack::sm80
