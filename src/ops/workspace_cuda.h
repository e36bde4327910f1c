// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "ops/aten.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::ops {

/// A workspace of at least so many bytes for calls on this stream, in memory of torch's: kept from
/// call to call, so that none of them has to clear it. A stream that is being captured gets one
/// that the graph clears itself, for all calls of the capture. `like` is on the device.
gpu::Workspace workspace_for(const Tensor& like, std::size_t bytes, cudaStream_t stream);

}  // namespace rtlynx::ops
