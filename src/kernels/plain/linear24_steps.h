// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"

/// What linear24 (rtlynx/linear24.h) does around its GEMMs on the plain path. Both launches are
/// asynchronous on `stream` of the current device and allocate nothing.
namespace rtlynx {

/// (H / s), rounded once to the element type.
struct DivideRows {
  const float* h = nullptr;      // [M, R], row-major, contiguous
  const float* scale = nullptr;  // [M]; null: s = 1
  void* result = nullptr;        // [M, R] of `dtype`; may be h itself when that is f32
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
cudaError_t launch_divide_rows(const DivideRows& problem, cudaStream_t stream);

/// Y = s * (acc + low) + bias, one fused multiply-add in fp32, rounded once to the type of Y.
struct Linear24Epilogue {
  const float* acc = nullptr;    // [M, N], X~ W^T, row-major, contiguous
  const float* low = nullptr;    // [M, N], (H / s) L_up; null: none
  const float* scale = nullptr;  // [M]; null: s = 1
  const void* bias = nullptr;    // [N] of `dtype`; null: none
  void* y = nullptr;             // [M, N] of `dtype`; may be acc itself when that is f32
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
cudaError_t launch_linear24_epilogue(const Linear24Epilogue& problem, cudaStream_t stream);

}  // namespace rtlynx
