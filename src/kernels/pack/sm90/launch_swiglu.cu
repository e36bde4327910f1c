// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/sm90/launch.cuh"

namespace rtlynx::pack::sm90 {

template <typename Element>
cudaError_t launch_swiglu(const Params& params, const Launch& launch) {
  return launch_transform<Element, Producer::swiglu>(params, launch);
}

template cudaError_t launch_swiglu<Bf16>(const Params& params, const Launch& launch);
template cudaError_t launch_swiglu<F16>(const Params& params, const Launch& launch);

}  // namespace rtlynx::pack::sm90
