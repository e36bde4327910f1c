// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::benchmark {

/// What a model without sparsity runs before a linear layer: one kernel, bound by memory. The
/// formulas are those of gpu::Producer.
struct DenseProducer {
  gpu::Producer kind = gpu::Producer::none;  // gelu, swiglu or layer_norm
  DType dtype = DType::bf16;
  std::int64_t tokens = 0;
  std::int64_t channels = 0;          // a multiple of 8; layer_norm: at most 8192
  const void* x = nullptr;            // [M, K]
  const void* up = nullptr;           // swiglu: [M, K]
  const float* multiplier = nullptr;  // layer_norm: [K]
  const float* shift = nullptr;       // layer_norm: [K]
  float eps = 1e-6f;
  void* z = nullptr;  // out: [M, K]
};

void run_dense_producer(const DenseProducer& problem, cudaStream_t stream);

}  // namespace rtlynx::benchmark
