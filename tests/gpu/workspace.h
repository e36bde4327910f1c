// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "gpu/gpu_test.h"
#include "kernels/workspace.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::testing {

/// A workspace whose beginning is zero, as it has to be, and whose rest nobody may read before
/// writing it: NaN.
class TestWorkspace {
 public:
  explicit TestWorkspace(std::size_t bytes) : buffer_(bytes) {
    buffer_.fill(DeviceBuffer::kGuard);
    const std::vector<std::byte> zeros(zeroed());
    if (zeros.empty()) return;
    EXPECT_EQ(cudaMemcpy(buffer_.data(), zeros.data(), zeros.size(), cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  gpu::Workspace view() const { return {buffer_.data(), buffer_.size()}; }

  /// What has to be zero is zero again, and nothing lies outside.
  void expect_clean() const {
    EXPECT_TRUE(buffer_.guards_intact());
    std::vector<std::byte> values(zeroed());
    if (values.empty()) return;
    ASSERT_EQ(cudaMemcpy(values.data(), buffer_.data(), values.size(), cudaMemcpyDeviceToHost),
              cudaSuccess);
    const auto zero = [](std::byte value) { return value == std::byte{0}; };
    EXPECT_TRUE(std::all_of(values.begin(), values.end(), zero)) << "counters of the workspace";
  }

 private:
  std::size_t zeroed() const {
    return std::min(buffer_.size(), gpu::zeroed_bytes(gpu::current_device().multiprocessors));
  }

  DeviceBuffer buffer_;
};

/// Enough for both on the current device.
inline std::size_t shared_workspace_bytes(int low_columns, const gpu::Gemm24Config& config) {
  const gpu::DeviceTraits device = gpu::current_device();
  return std::max(gpu::pack24_workspace_bytes(low_columns, device),
                  gpu::product24_workspace_bytes(config, device));
}

}  // namespace rtlynx::testing
