// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "kernels/gemm/measured.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::gpu {

/// Tiles of Y [M, N] and steps along K that the sm90 kernel takes; doubles, which cannot overflow.
double sm90_tiles(const Gemm24Shape& shape);
double sm90_steps(const Gemm24Shape& shape);

/// A configuration and its time in microseconds.
struct TimedConfig {
  Gemm24Config config;
  double us = std::numeric_limits<double>::infinity();
};

/// Times by what steps and tiles take, the waves that the tiles make, and the memory bandwidth.
class TimeModel {
 public:
  TimeModel(const Gemm24Shape& shape, int multiprocessors, const Measurements& measured)
      : shape_(shape), multiprocessors_(multiprocessors), measured_(measured) {}

  /// With the pack before it.
  TimedConfig fastest_sparse() const;
  double pack_us() const;

  /// Dense libraries have many tiles, and cut along K where there is less than one wave.
  double dense_us() const;

 private:
  Gemm24Config config(bool stream_k) const;
  int cluster() const;
  int ctas() const;
  double sparse_us(int slices) const;
  double tile_us(double steps) const;
  double total_us(double busy_us) const;

  Gemm24Shape shape_;
  int multiprocessors_;
  const Measurements& measured_;
};

/// The row of this shape and rank, or null.
const MeasuredShape* find_measured(const Gemm24Shape& shape, const Measurements& measured);

/// What a linear layer takes on the GPU that was measured, in microseconds.
struct LinearTimes {
  double dense_us = 0;
  std::optional<double> sparse_us;  ///< with the pack; nothing where no sparse kernel is used
  double pack_us = 0;               ///< the pack's part of it, without low rank and transform
  std::string
      source;  ///< "measured", "measured at rank 64", "estimated", or why there is no kernel
};

/// Measured rows first; where they are of another rank, scaled by what the model says of the two.
/// Throws Error for a size below 1.
LinearTimes linear_times(const Gemm24Shape& shape, const Measurements& measured = kH200);

}  // namespace rtlynx::gpu
