// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/pack/pack24.h"
#include "kernels/pack/sm80/kernel.cuh"

/// The instances of the portable pack kernel for one element type.
namespace rtlynx::pack::sm80 {

template <typename T>
cudaError_t launch_kernel(const Params& params, cudaStream_t stream) {
  const auto kernel = pack24_kernel<T>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  if (status != cudaSuccess) return status;
  const int blocks = (params.tokens + kTokens - 1) / kTokens;
  const int passes = T::kRank == 0 ? 1 : (params.rank + T::kRank - 1) / T::kRank;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(passes));
  kernel<<<grid, kThreads, T::kSharedBytes, stream>>>(params);
  return cudaGetLastError();
}

template <typename Element, int kProducer, int kTransform>
cudaError_t launch_rank(const Params& params, cudaStream_t stream) {
  if (params.rank == 0) {
    return launch_kernel<Traits<Element, kProducer, 0, kTransform>>(params, stream);
  }
  // Beside a transform of two tiles 128 columns find no registers: further CTAs do them.
  if constexpr (kTransform < 2) {
    if (params.rank > 64) {
      return launch_kernel<Traits<Element, kProducer, 16, kTransform>>(params, stream);
    }
  }
  return launch_kernel<Traits<Element, kProducer, 8, kTransform>>(params, stream);
}

template <typename Element, gpu::Producer kProducer>
cudaError_t launch_plain(const Params& params, cudaStream_t stream) {
  return launch_rank<Element, static_cast<int>(kProducer), 0>(params, stream);
}

/// The transform looks for the producer at run time: fewer kernels to build.
template <typename Element>
cudaError_t launch(const Params& params, cudaStream_t stream) {
  if (params.transform != nullptr) {
    const auto launch_transform = params.transform_block <= kPackedTileChannels
                                      ? launch_rank<Element, kAnyProducer, 1>
                                      : launch_rank<Element, kAnyProducer, 2>;
    return launch_transform(params, stream);
  }
  switch (params.producer) {
    case gpu::Producer::none:
      return launch_plain<Element, gpu::Producer::none>(params, stream);
    case gpu::Producer::gelu:
      return launch_plain<Element, gpu::Producer::gelu>(params, stream);
    case gpu::Producer::swiglu:
      return launch_plain<Element, gpu::Producer::swiglu>(params, stream);
    case gpu::Producer::layer_norm:
      return launch_plain<Element, gpu::Producer::layer_norm>(params, stream);
    case gpu::Producer::rms_norm:
      return launch_plain<Element, gpu::Producer::rms_norm>(params, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rtlynx::pack::sm80
