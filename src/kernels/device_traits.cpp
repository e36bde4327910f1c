// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <array>
#include <mutex>
#include <string>

#include "base/error.h"
#include "kernels/check.h"
#include "rtlynx/gpu/device.h"

namespace rtlynx::gpu {
namespace {

constexpr const char* kOp = "current_device";
constexpr int kMostDevices = 64;

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), kOp);
  return value;
}

DeviceTraits ask(int device) {
  return {.index = device,
          .compute_capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                                attribute(cudaDevAttrComputeCapabilityMinor, device),
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device),
          .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device)};
}

}  // namespace

DeviceTraits current_device() {
  static std::array<std::once_flag, kMostDevices> asked;
  static std::array<DeviceTraits, kMostDevices> known;
  int device = 0;
  check(cudaGetDevice(&device), kOp);
  if (device >= kMostDevices) {
    fail(kOp, "a device below " + std::to_string(kMostDevices), std::to_string(device));
  }
  const auto index = static_cast<std::size_t>(device);
  std::call_once(asked[index], [&] { known[index] = ask(device); });
  return known[index];
}

}  // namespace rtlynx::gpu
