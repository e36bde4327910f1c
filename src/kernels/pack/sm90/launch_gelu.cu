// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm90/launch.cuh"

namespace rtlynx::pack::sm90 {

template <typename Element>
cudaError_t launch_gelu(const Params& params, const Launch& launch) {
  return launch_transform<Element, Producer::gelu>(params, launch);
}

template cudaError_t launch_gelu<Bf16>(const Params& params, const Launch& launch);
template cudaError_t launch_gelu<F16>(const Params& params, const Launch& launch);

}  // namespace rtlynx::pack::sm90
