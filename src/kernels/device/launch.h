// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <mutex>

/// What launches have in common.
namespace rtlynx::device {

inline constexpr int kMostDevices = 64;

/// Lets a kernel have so much dynamic shared memory, once on each device. `Tag` is unique to the
/// kernel: kernels of one signature are one type.
template <typename Tag, typename Kernel>
cudaError_t allow_shared_memory(Kernel kernel, int bytes, int device) {
  static std::once_flag once[kMostDevices];
  static cudaError_t status[kMostDevices];
  if (device < 0 || device >= kMostDevices) return cudaErrorInvalidDevice;
  std::call_once(once[device], [&] {
    status[device] =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  });
  return status[device];
}

/// Launches a kernel that waits for the grid before it by itself (wait_for_previous_grid()): on
/// sm_90 it starts as multiprocessors fall free.
template <typename Params>
cudaError_t launch_early(void (*kernel)(Params), dim3 grid, int threads, const Params& params,
                         int compute_capability, cudaStream_t stream) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = compute_capability >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

}  // namespace rtlynx::device
