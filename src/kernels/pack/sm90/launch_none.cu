// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm90/launch.cuh"

namespace rtlynx::pack::sm90 {

template <typename Element>
cudaError_t launch_none(const Params& params, const Launch& launch) {
  return launch_transform<Element, Producer::none>(params, launch);
}

template cudaError_t launch_none<Bf16>(const Params& params, const Launch& launch);
template cudaError_t launch_none<F16>(const Params& params, const Launch& launch);

}  // namespace rtlynx::pack::sm90
