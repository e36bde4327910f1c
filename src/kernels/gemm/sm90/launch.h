// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "rtlynx/gpu/product24.h"
#include "rtlynx/weight24.h"

namespace rtlynx {

/// Runs checked products on sm_90a: `config` of path sm90. Returns cudaErrorInvalidValue for a
/// configuration that was not built.
cudaError_t launch_product24_sm90(const gpu::PackedInput& packed,
                                  std::span<const Product24> products,
                                  const gpu::Gemm24Config& config, void* workspace,
                                  const gpu::DeviceTraits& device, cudaStream_t stream);

/// The same of sparse weights: `config` has the tile of gpu::is_sm90_weight_config().
cudaError_t launch_weight_product24_sm90(const DenseInput24& input,
                                         std::span<const WeightProduct24> products,
                                         const gpu::Gemm24Config& config, void* workspace,
                                         const gpu::DeviceTraits& device, cudaStream_t stream);

}  // namespace rtlynx
