// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/launch.h"
#include "kernels/pack/pack24.h"
#include "kernels/pack/sm80/kernel.cuh"

/// The instances of the portable pack kernel for one element type.
namespace rtlynx::pack::sm80 {

template <typename T>
cudaError_t launch_kernel(const Params& params, const Launch& launch) {
  const auto kernel = pack24_kernel<T>;
  const cudaError_t status =
      device::allow_shared_memory<T>(kernel, T::kSharedBytes, launch.device.index);
  if (status != cudaSuccess) return status;
  const int blocks = (params.tokens + kTokens - 1) / kTokens;
  const int passes = T::kRank == 0 ? 1 : (params.low_columns + T::kRank - 1) / T::kRank;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(passes));
  kernel<<<grid, kThreads, T::kSharedBytes, launch.stream>>>(params);
  return cudaGetLastError();
}

template <typename Element, int kProducer, int kTransform>
cudaError_t launch_rank(const Params& params, const Launch& launch) {
  if (params.low_columns == 0) {
    return launch_kernel<Traits<Element, kProducer, 0, kTransform>>(params, launch);
  }
  // Beside a transform of two tiles 128 columns find no registers: further CTAs do them.
  if constexpr (kTransform < 2) {
    if (params.low_columns > 64) {
      return launch_kernel<Traits<Element, kProducer, 16, kTransform>>(params, launch);
    }
  }
  return launch_kernel<Traits<Element, kProducer, 8, kTransform>>(params, launch);
}

template <typename Element, Producer kProducer>
cudaError_t launch_plain(const Params& params, const Launch& launch) {
  return launch_rank<Element, static_cast<int>(kProducer), 0>(params, launch);
}

/// The transform looks for the producer at run time: fewer kernels to build.
template <typename Element>
cudaError_t launch_element(const Params& params, const Launch& launch) {
  if (params.transform != nullptr) {
    const auto launch_transform = params.transform_block <= kPackedTileChannels
                                      ? launch_rank<Element, kAnyProducer, 1>
                                      : launch_rank<Element, kAnyProducer, 2>;
    return launch_transform(params, launch);
  }
  switch (params.producer) {
    case Producer::none:
      return launch_plain<Element, Producer::none>(params, launch);
    case Producer::gelu:
      return launch_plain<Element, Producer::gelu>(params, launch);
    case Producer::swiglu:
      return launch_plain<Element, Producer::swiglu>(params, launch);
    case Producer::norm:
      return launch_plain<Element, Producer::norm>(params, launch);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rtlynx::pack::sm80
