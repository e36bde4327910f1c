// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string_view>

namespace rtlynx::gpu {

/// Throws Error naming `op` and what CUDA said, unless it said success.
void check(cudaError_t status, std::string_view op);

/// Throws Error unless `pointer` is set and 16-byte aligned; `optional`: or null.
void check_pointer(std::string_view op, std::string_view name, const void* pointer,
                   bool optional = false);

}  // namespace rtlynx::gpu
