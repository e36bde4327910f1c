// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/device/host_device.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::pack {

RTLYNX_HOST_DEVICE constexpr bool is_norm(gpu::Producer producer) {
  return producer == gpu::Producer::layer_norm || producer == gpu::Producer::rms_norm;
}

/// What the pack kernel reads: gpu::Pack24 with its defaults resolved.
struct Params {
  const void* x;  // [M, K], row_stride elements between rows
  std::int64_t row_stride;
  int tokens;
  int channels;
  int tiles;  // ceil(K / 64)
  char* operand;
  std::int64_t tile_stride;  // of the operand, to the next channels: bytes
  float* scale;              // [M]; null: not wanted
  const void* down;          // [rank, K]
  void* low;                 // [M, rank]
  int rank;

  gpu::Producer producer;
  const void* up;           // swiglu
  const float* multiplier;  // norms; null: ones
  const float* shift;       // norms; null: zeros
  unsigned image_tokens;    // norms, 1 .. M
  float eps;                // norms

  const void* transform;  // [K / block, block, block]; null: none
  int transform_block;
  void* selected_from;  // [M, K]; null: not wanted
  bool portable;        // also where a faster kernel exists

  void* workspace;  // workspace.h; may be null where the caller needs none
  int multiprocessors;
};

}  // namespace rtlynx::pack
