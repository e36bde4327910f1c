// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rtlynx/pack24.h"

namespace rtlynx::pack {

/// What the pack kernels read: Pack24 with its defaults resolved.
struct Params {
  const void* x;  // [M, tail_start]
  std::int64_t x_stride;
  const void* tail;  // [M, channels - tail_start]; null: none
  std::int64_t tail_stride;
  int tail_start;  // beyond all channels without a tail
  int tokens;
  int channels;
  int tiles;  // of 64 channels; of e4m3 an even number: its packed tiles have 128

  Producer producer;
  const void* up;  // swiglu: [M, K]
  std::int64_t up_stride;
  const float2* moments;         // norm: [M], mean and rate
  const void* weight;            // norm: [K]; null: ones
  const void* modulation_scale;  // norm: [images, K]; null: zeros
  std::int64_t scale_stride;
  const void* modulation_shift;  // norm: [images, K]; null: zeros
  std::int64_t shift_stride;
  unsigned image_tokens;  // norm: 1 .. M

  const void* transform;  // [K / block, block, block]; null: none
  int transform_block;

  char* operand;
  std::int64_t tile_stride;  // of the operand, to the next channels: bytes
  bool restores_norm;
  const float* code_factor;  // [M]: values leave as e4m3; null: as they are
  float weight_unit;         // a factor to the scale, 1 without code_factor
  float* scale;              // [M]
  const void* down;          // [low_columns, K]
  std::int64_t down_stride;
  void* low;  // [M, low_columns]
  std::int64_t low_stride;
  int low_columns;
  void* z;  // [M, K], contiguous; null: not wanted
};

}  // namespace rtlynx::pack
