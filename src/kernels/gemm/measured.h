// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "rtlynx/gpu/gemm24.h"

/// The times that the choice of a configuration rests on.
namespace rtlynx::gpu {

/// How fast a dense library computes tiles of one size.
struct MeasuredDense {
  int tile_tokens;
  int tile_outputs;
  double tflops;  // on the whole GPU, full waves
};

/// A shape for which the best configuration is known.
struct MeasuredShape {
  std::int64_t tokens;
  std::int64_t outputs;
  std::int64_t channels;
  int rank;
  Gemm24Config config;  // the fastest sparse one
  double sparse_us;
  double dense_us;
};

struct Measurements {
  const char* gpu;
  int compute_capability;
  int multiprocessors;
  int cluster;      // the fastest
  int group_tiles;  // about the fastest: a few more or less cost nothing
  double launch_us;
  double step_us;   // 64 channels of a tile of the sparse kernel, on one multiprocessor
  double tile_us;   // per tile besides its steps: epilogue, the next tile's start
  double fixup_us;  // where stream-K cuts the last wave: for owners to add the other slices
  double terabytes_per_second;
  std::span<const MeasuredDense> dense;
  std::span<const MeasuredShape> shapes;
  // What the pack before a product adds, where programmatic launches overlap the two.
  double pack_us = 0.0;
  double pack_us_per_megabyte = 0.0;  // of X read, values and metadata written
  std::int64_t least_tokens = 1;      // below, dense was faster whatever the shape
};

// NVIDIA H200, 2026-11-21, `rtlynx bench`, bench/results/2026-11-21-h200-bf16-*.json. The model is
// within 10 % of the times there. The small dense tiles are assumed, in favour of the dense
// libraries; 512 tokens were measured slower on three shapes, between 512 and 4,096 nothing was.
inline constexpr std::array<MeasuredDense, 3> kH200Dense{{
    {.tile_tokens = 128, .tile_outputs = 256, .tflops = 770},
    {.tile_tokens = 128, .tile_outputs = 128, .tflops = 650},
    {.tile_tokens = 64, .tile_outputs = 64, .tflops = 300},
}};

inline constexpr std::array<MeasuredShape, 0> kH200Shapes{};

inline constexpr Measurements kH200{.gpu = "H200",
                                    .compute_capability = 90,
                                    .multiprocessors = 132,
                                    .cluster = 2,
                                    .group_tiles = 18,
                                    .launch_us = 4.0,
                                    .step_us = 0.44,
                                    .tile_us = 1.6,
                                    .fixup_us = 4.0,
                                    .terabytes_per_second = 4.0,
                                    .dense = kH200Dense,
                                    .shapes = kH200Shapes,
                                    .pack_us = 10.0,
                                    .pack_us_per_megabyte = 0.36,
                                    .least_tokens = 1024};

}  // namespace rtlynx::gpu
