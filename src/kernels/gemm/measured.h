// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "rtlynx/gpu/product24.h"

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
  double estimate_margin = 1.0;  // an estimate has to be so many times below dense: it may be wrong
};

// NVIDIA H200, 2026-11-21, `rtlynx bench`, bench/results/2026-11-21-h200-bf16-*.json. The model is
// within 10 % of most times there. The small dense tiles are assumed, in favour of the dense
// libraries; 512 tokens were measured slower on three shapes.
inline constexpr std::array<MeasuredDense, 3> kH200Dense{{
    {.tile_tokens = 128, .tile_outputs = 256, .tflops = 770},
    {.tile_tokens = 128, .tile_outputs = 128, .tflops = 650},
    {.tile_tokens = 64, .tile_outputs = 64, .tflops = 300},
}};

/// A linear layer with rank 64, pack included, in 128 x 256 tiles by clusters of two.
constexpr MeasuredShape known(std::int64_t tokens, std::int64_t outputs, std::int64_t channels,
                              int group_tiles, bool stream_k, double sparse_us, double dense_us) {
  return {.tokens = tokens,
          .outputs = outputs,
          .channels = channels,
          .rank = 64,
          .config = {.path = Gemm24Config::Path::sm90,
                     .tile_tokens = 128,
                     .tile_outputs = 256,
                     .cluster = 2,
                     .group_tiles = group_tiles,
                     .stream_k = stream_k},
          .sparse_us = sparse_us,
          .dense_us = dense_us};
}

inline constexpr std::array<MeasuredShape, 21> kH200Shapes{{
    known(1024, 12288, 3072, 8, false, 105.6, 127.7),
    known(2048, 3072, 3072, 16, true, 67.6, 63.5),
    known(2048, 3072, 12288, 16, true, 214.6, 249.8),
    known(2048, 12288, 3072, 16, false, 195.3, 259.3),
    known(4096, 3072, 3072, 16, false, 91.7, 103.7),
    known(4096, 3072, 12288, 16, false, 309.4, 394.1),
    known(4096, 4096, 3072, 16, false, 142.5, 163.4),
    known(4096, 4096, 12288, 16, false, 491.0, 652.0),
    known(4096, 9216, 3072, 16, false, 228.1, 304.1),
    known(4096, 12288, 3072, 16, false, 297.4, 409.9),
    known(4224, 3840, 3840, 17, false, 138.1, 164.8),
    known(4224, 3840, 10240, 17, false, 331.5, 432.1),
    known(4224, 11520, 3840, 17, true, 357.2, 497.5),
    known(4224, 20480, 3840, 17, false, 622.5, 885.4),
    known(4608, 3072, 15360, 18, true, 440.4, 556.6),
    known(4608, 21504, 3072, 18, false, 564.8, 810.1),
    known(6889, 3072, 3072, 18, false, 144.9, 171.9),
    known(6889, 3072, 12288, 18, false, 517.5, 691.5),
    known(6889, 9216, 3072, 18, false, 376.2, 506.7),
    known(6889, 12288, 3072, 18, false, 498.0, 693.6),
    known(8192, 8192, 12288, 16, false, 1904.2, 2612.6),
}};

inline constexpr Measurements kH200{.gpu = "H200",
                                    .compute_capability = 90,
                                    .multiprocessors = 132,
                                    .cluster = 2,
                                    .group_tiles = 18,
                                    .launch_us = 4.0,
                                    .step_us = 0.44,
                                    .tile_us = 1.6,
                                    .fixup_us = 10.0,
                                    .terabytes_per_second = 4.0,
                                    .dense = kH200Dense,
                                    .shapes = kH200Shapes,
                                    .pack_us = 8.0,
                                    .pack_us_per_megabyte = 0.25,
                                    .least_tokens = 1024,
                                    .estimate_margin = 1.05};

}  // namespace rtlynx::gpu
