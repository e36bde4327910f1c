// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "benchmark/device.h"
#include "rtlynx/dtype.h"
#include "rtlynx/limits.h"

namespace rtlynx::benchmark {

/// y = scale * (a weight^T + low up^T) + bias. Device memory; 16-bit elements but for scale.
struct SampledProduct {
  const void* a = nullptr;       // [M, K]
  const void* weight = nullptr;  // [N, K]
  std::int64_t channels = 0;
  const void* low = nullptr;  // [M, low_columns]; null: none
  std::int64_t low_columns = 0;
  const void* up = nullptr;  // [N, rank]
  int rank = 0;
  /// Outputs behind the first weight's, the second's, ...: each weight has its own `rank` columns
  /// of low.
  std::int64_t ends[kMaxProducts] = {};
  const float* scale = nullptr;  // [M]; null: ones
  const void* bias = nullptr;    // [N]; null: zeros
};

/// Elements of an M x N matrix at which results are compared: the first and the last row, where
/// tiles begin and end, and random ones.
class Sampler {
 public:
  struct Element {
    std::int64_t row, column;
  };

  Sampler(std::int64_t tokens, std::int64_t outputs, DType dtype, std::uint64_t seed);

  /// In fp64, of the operands as they are.
  std::vector<double> exact(const SampledProduct& product, cudaStream_t stream) const;

  /// A plain sum in fp32, rounded once to the element type: what a dense product of that precision
  /// loses.
  std::vector<double> plain(const SampledProduct& product, cudaStream_t stream) const;

  /// The elements of y [M, N] itself.
  std::vector<double> gather(const void* y, cudaStream_t stream) const;

  /// Of the rows, a few: the first, the last and random ones.
  const std::vector<std::int64_t>& rows() const { return rows_; }

 private:
  std::vector<double> fetch(cudaStream_t stream) const;

  std::int64_t outputs_;
  DType dtype_;
  std::int64_t count_ = 0;
  std::vector<std::int64_t> rows_;
  DeviceBuffer elements_;
  DeviceBuffer values_;  // double, one per element
};

/// ||values - exact|| / ||exact||; NaN if any value is.
double relative_error(const std::vector<double>& values, const std::vector<double>& exact);

}  // namespace rtlynx::benchmark
