// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

#include "rtlynx/dtype.h"

namespace rtlynx::device {

/// One axis of a tensor of 16-bit elements in device memory, and how much of it TMA moves at once.
struct TensorAxis {
  std::int64_t size = 0;
  std::int64_t stride = 1;  // in elements, a multiple of 8; 1 for the innermost axis
  int box = 1;
};

inline constexpr int kMostAxes = 5;

/// A tensor and the box that TMA moves of it. Every launch describes several: nothing is allocated.
struct TensorBox {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  int count = 2;                           // of the axes
  std::array<TensorAxis, kMostAxes> axes;  // innermost first; its box of 64 elements gets the
                                           // 128-byte swizzle, of 32 the 64-byte one
};

/// Describes it for TMA. Reads beyond the tensor give zeros, writes there are dropped.
cudaError_t make_tensor_map(const TensorBox& box, CUtensorMap& map);

}  // namespace rtlynx::device
