// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm80/launch.cuh"

namespace rtlynx::pack::sm80 {

cudaError_t launch_f16(const Params& params, const Launch& launch) {
  return launch_element<F16>(params, launch);
}

}  // namespace rtlynx::pack::sm80
