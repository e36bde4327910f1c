// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/pack/pack24.cuh"
#include "kernels/pack/pack24.h"

/// The instances of the pack kernel for one element type.
namespace rtlynx::pack {

template <typename T>
cudaError_t launch_kernel(const Params& params, int cluster, cudaStream_t stream) {
  const auto kernel = pack24_kernel<T>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  if (status != cudaSuccess) return status;
  const int blocks = (params.tokens + kTokens - 1) / kTokens;
  const int passes = T::kRank == 0 ? 1 : (params.rank + T::kRank - 1) / T::kRank;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks * cluster), static_cast<unsigned>(passes));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

template <typename Element, int kProducer, int kTransform>
cudaError_t launch_rank(const Params& params, int cluster, cudaStream_t stream) {
  if (params.rank == 0) {
    return launch_kernel<Traits<Element, kProducer, 0, kTransform>>(params, cluster, stream);
  }
  if (params.rank <= 64) {
    return launch_kernel<Traits<Element, kProducer, 8, kTransform>>(params, cluster, stream);
  }
  return launch_kernel<Traits<Element, kProducer, 16, kTransform>>(params, cluster, stream);
}

template <typename Element, gpu::Producer kProducer>
cudaError_t launch_plain(const Params& params, int cluster, cudaStream_t stream) {
  return launch_rank<Element, static_cast<int>(kProducer), 0>(params, cluster, stream);
}

/// The transform looks for the producer at run time: fewer kernels to build.
template <typename Element>
cudaError_t launch(const Params& params, int cluster, cudaStream_t stream) {
  if (params.transform != nullptr) {
    const auto launch_transform = params.transform_block <= kPackedTileChannels
                                      ? launch_rank<Element, kAnyProducer, 1>
                                      : launch_rank<Element, kAnyProducer, 2>;
    return launch_transform(params, cluster, stream);
  }
  switch (params.producer) {
    case gpu::Producer::none:
      return launch_plain<Element, gpu::Producer::none>(params, cluster, stream);
    case gpu::Producer::gelu:
      return launch_plain<Element, gpu::Producer::gelu>(params, cluster, stream);
    case gpu::Producer::swiglu:
      return launch_plain<Element, gpu::Producer::swiglu>(params, cluster, stream);
    case gpu::Producer::layer_norm:
      return launch_plain<Element, gpu::Producer::layer_norm>(params, cluster, stream);
    case gpu::Producer::rms_norm:
      return launch_plain<Element, gpu::Producer::rms_norm>(params, cluster, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rtlynx::pack
