// SPDX-License-Identifier: Apache-2.0
// What the GPU examples need around the library: bf16 on the host, and device memory.
#pragma once

#include <cuda_runtime_api.h>
#include <rtlynx/error.h>
#include <rtlynx/matrix.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

using Elements = std::vector<std::uint16_t>;  // bf16: the upper half of fp32

inline std::uint16_t to_bf16(float value) { return std::bit_cast<std::uint32_t>(value) >> 16; }
inline float to_float(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw rtlynx::Error(cudaGetErrorString(status));
}

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

inline DeviceMemory allocate_zeros(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes));
  DeviceMemory owner(memory);
  check(cudaMemset(memory, 0, bytes));
  return owner;
}

/// A bf16 matrix in device memory.
struct DeviceMatrix {
  DeviceMatrix(std::int64_t row_count, std::int64_t column_count)
      : rows(row_count), columns(column_count), memory(allocate_zeros(rows * columns * 2)) {}
  DeviceMatrix(const Elements& elements, std::int64_t row_count, std::int64_t column_count)
      : DeviceMatrix(row_count, column_count) {
    check(cudaMemcpy(memory.get(), elements.data(), elements.size() * 2, cudaMemcpyHostToDevice));
  }

  rtlynx::MatrixView view() const {
    return rtlynx::contiguous(memory.get(), rtlynx::DType::bf16, rows, columns);
  }
  Elements read() const {
    Elements elements(rows * columns);
    check(cudaMemcpy(elements.data(), memory.get(), elements.size() * 2, cudaMemcpyDeviceToHost));
    return elements;
  }

  std::int64_t rows, columns;
  DeviceMemory memory;
};

inline DeviceMatrix random_matrix(std::int64_t rows, std::int64_t columns, float deviation) {
  static std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, deviation);
  Elements elements(rows * columns);
  for (auto& value : elements) value = to_bf16(normal(random));
  return {elements, rows, columns};
}

inline bool has_gpu() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}
