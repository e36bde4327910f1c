// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/rows.h"

namespace rtlynx::rows {

struct Launch {
  int compute_capability;
  int multiprocessors;
  cudaStream_t stream;
};

/// What the kernel reads: ResidualNorm with its defaults resolved. Strides in elements.
struct ResidualNormParams {
  const void* x;
  std::int64_t x_stride;
  const void* y;  // null: h = x
  std::int64_t y_stride;
  const void* gate;  // null: ones
  std::int64_t gate_stride;
  bool tanh_gate;
  const void* post_weight;  // null: p = y
  float post_eps;
  unsigned image_tokens;  // 1 .. M
  void* h;                // null: not wanted
  std::int64_t h_stride;
  bool centred;  // LayerNorm
  float eps;
  float2* moments;     // null: not wanted
  const void* weight;  // null: ones
  const void* scale;   // null: zeros
  std::int64_t scale_stride;
  const void* shift;  // null: zeros
  std::int64_t shift_stride;
  void* normed;  // null: not wanted
  std::int64_t normed_stride;
  int tokens;
  int columns;
};

cudaError_t launch_residual_norm(DType dtype, const ResidualNormParams& params,
                                 const Launch& launch);

/// One token stream of head_norm.
struct HeadStreamParams {
  const void* source[3];  // q, k, v
  std::int64_t stride[3];
  const void* weight[2];  // of q and k; null: ones
  int tokens;             // of an image
};

/// HeadNorm with its defaults resolved.
struct HeadNormParams {
  HeadStreamParams streams[2];
  int stream_count;
  int images;
  int image_tokens;  // of all streams
  int heads;
  int head_dim;
  float eps;
  const float* rotation;  // [image_tokens, head_dim / 2, 2]; null: not turned
  void* target[3];        // q, k, v; v null: not wanted
  std::int64_t stride[3];
};

/// Swiglu as it is. Strides in elements.
struct SwigluParams {
  const void* gate;
  std::int64_t gate_stride;
  const void* up;
  std::int64_t up_stride;
  void* y;
  std::int64_t y_stride;
  int tokens;
  int columns;
};

/// Quantize as it is. Strides in elements.
struct QuantizeParams {
  const void* x;
  std::int64_t x_stride;
  void* codes;
  std::int64_t codes_stride;
  float* unit;
  int tokens;
  int columns;
};

cudaError_t launch_quantize(DType dtype, const QuantizeParams& params, const Launch& launch);

cudaError_t launch_swiglu(DType dtype, const SwigluParams& params, const Launch& launch);

cudaError_t launch_head_norm(DType dtype, const HeadNormParams& params, const Launch& launch);

}  // namespace rtlynx::rows
