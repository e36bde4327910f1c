// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"

namespace rtlynx::sm90 {

/// A row-major matrix of 16-bit elements in device memory and the box that TMA moves of it.
struct TensorBox {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // a multiple of 8; also the stride
  int box_rows = 0;
  int box_columns = 0;  // 64: 128-byte swizzle; 32: 64-byte swizzle
};

/// Describes it for TMA. Reads beyond the matrix give zeros, writes there are dropped.
cudaError_t make_tensor_map(const TensorBox& box, CUtensorMap& map);

}  // namespace rtlynx::sm90
