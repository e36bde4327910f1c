// SPDX-License-Identifier: Apache-2.0
#pragma once

typedef struct CUstream_st* cudaStream_t;  // as in the CUDA headers, which are not needed here

namespace rtlynx::gpu {

/// The GPU, as far as choices and workspaces depend on it.
struct DeviceTraits {
  int index = 0;
  int compute_capability = 0;  // 90 for 9.0
  int multiprocessors = 0;
  int shared_bytes = 0;  // per block, opt-in
};

/// The current device; what it is like is asked once. Throws Error if there is none.
DeviceTraits current_device();

}  // namespace rtlynx::gpu
