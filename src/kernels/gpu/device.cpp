// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/device.h"

#include <cuda_runtime_api.h>

#include "kernels/gpu/check.h"

namespace rtlynx::gpu {
namespace {

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), "current_device");
  return value;
}

}  // namespace

DeviceTraits current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "current_device");
  return {.compute_capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                                attribute(cudaDevAttrComputeCapabilityMinor, device),
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device),
          .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device)};
}

}  // namespace rtlynx::gpu
