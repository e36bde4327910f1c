// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "rtlynx/gpu/product24.h"

namespace rtlynx {

/// Runs checked products by mma.sp: any GPU of sm_80 or later. Needs no workspace.
cudaError_t launch_product24_sm80(const gpu::PackedInput& packed,
                                  std::span<const Product24> products,
                                  const gpu::DeviceTraits& device, cudaStream_t stream);

}  // namespace rtlynx
