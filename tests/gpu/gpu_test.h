// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rtlynx/dtype.h"

namespace rtlynx::testing {

/// The element types of the GPU kernels.
inline constexpr std::array kNarrowTypes = {DType::bf16, DType::f16};

/// Where a DeviceBuffer lies in its allocation.
struct Placement {
  std::size_t offset = 0;          // from a 256-byte boundary
  std::size_t guard_after = 1024;  // bytes behind it
};

/// Device memory for the duration of a test. It begins poisoned, so that what is not written shows,
/// and lies between guards of 0xff: NaN of every element type, so that reading them shows too.
class DeviceBuffer {
 public:
  static constexpr std::uint8_t kGuard = 0xff;
  static constexpr int kPoison = 0xa5;

  explicit DeviceBuffer(std::size_t size, const void* content = nullptr, Placement placement = {})
      : size_(size), front_(kFront + placement.offset), back_(placement.guard_after) {
    EXPECT_EQ(cudaMalloc(&base_, front_ + size_ + back_), cudaSuccess);
    EXPECT_EQ(cudaMemset(base_, kGuard, front_ + size_ + back_), cudaSuccess);
    if (content == nullptr) {
      fill(kPoison);
    } else {
      write(content);
    }
  }
  ~DeviceBuffer() { cudaFree(base_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return static_cast<std::byte*>(base_) + front_; }
  float* floats() const { return static_cast<float*>(data()); }
  std::size_t size() const { return size_; }

  void write(const void* content) {
    if (size_ == 0) return;
    EXPECT_EQ(cudaMemcpy(data(), content, size_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  void fill(int byte) {
    if (size_ == 0) return;
    EXPECT_EQ(cudaMemset(data(), byte, size_), cudaSuccess);
  }
  void poison() { fill(kPoison); }

  template <typename T = std::byte>
  std::vector<T> read() const {
    std::vector<T> values(size_ / sizeof(T));
    copy_back(0, values);
    return values;
  }
  bool guards_intact() const {
    std::vector<std::uint8_t> before(front_), after(back_);
    copy_back(-static_cast<std::ptrdiff_t>(front_), before);
    copy_back(static_cast<std::ptrdiff_t>(size_), after);
    const auto intact = [](std::uint8_t byte) { return byte == kGuard; };
    return std::all_of(before.begin(), before.end(), intact) &&
           std::all_of(after.begin(), after.end(), intact);
  }

 private:
  static constexpr std::size_t kFront = 256;

  template <typename T>
  void copy_back(std::ptrdiff_t offset, std::vector<T>& target) const {
    if (target.empty()) return;
    EXPECT_EQ(cudaMemcpy(target.data(), static_cast<std::byte*>(data()) + offset,
                         target.size() * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
  }

  void* base_ = nullptr;
  std::size_t size_;
  std::size_t front_;
  std::size_t back_;
};

template <typename T>
DeviceBuffer on_gpu(const std::vector<T>& values) {
  return DeviceBuffer(values.size() * sizeof(T), values.data());
}

/// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void wait() const { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Skipped, with the reason, without a GPU.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
};

/// Once per element type of the GPU kernels.
class NarrowTypeGpuTest : public GpuTest, public ::testing::WithParamInterface<DType> {};

}  // namespace rtlynx::testing
