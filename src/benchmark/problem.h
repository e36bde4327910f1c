// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "benchmark/cusparselt.h"
#include "benchmark/device.h"
#include "benchmark/shapes.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::benchmark {

/// Rank of each weight's residual, and block of the transform, in the figures.
inline constexpr int kRank = 64;
inline constexpr int kTransformBlock = 64;

/// cuSPARSELt wants rows in multiples of this.
inline constexpr std::int64_t kSparseRowAlignment = 16;

/// What a call reads and writes. Several sets, so that calls in turn find nothing in the L2. The
/// weights lie one below the other, so that the rivals can run them as one; N is that of all.
struct OperandSet {
  DeviceBuffer x;        // [M, K]
  DeviceBuffer up_half;  // [M, K]: the other input of SwiGLU; empty for other producers
  DeviceBuffer weight;   // [N, K]
  DeviceBuffer dense;    // [M, K]: X~, the output of a dense producer, or a copy
  DeviceBuffer moments;  // [M, 2] fp32, of the rows of X; empty without a norm
  DeviceBuffer operand;  // packed X
  DeviceBuffer scale;    // [M] fp32
  DeviceBuffer low;      // [M, kRank of each weight]
  DeviceBuffer y;        // [M rounded up, N]
};

struct PackOptions {
  bool low_rank = false;
  bool transform = false;
  bool produced = false;  // of the shape's producer, its moments included
};

/// One shape with random operands in device memory.
class Problem {
 public:
  Problem(const Shape& shape, DType dtype, std::uint64_t seed, cudaStream_t stream);

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  gpu::Gemm24Shape gemm_shape(int rank) const;
  std::int64_t padded_tokens() const;
  std::int64_t low_columns() const;
  bool has_transform() const { return shape_.channels % kTransformBlock == 0; }

  int sets() const { return static_cast<int>(sets_.size()); }
  const OperandSet& set(int index) const { return sets_[static_cast<std::size_t>(index)]; }
  const void* up() const { return up_.data(); }      // [N, kRank]
  const void* bias() const { return bias_.data(); }  // [N]

  /// Large enough for `config` from now on.
  void reserve_workspace(const gpu::Gemm24Config& config, const gpu::DeviceTraits& device);

  /// What set `index` packs, on the device.
  Pack24 input(int index, const PackOptions& options) const;
  void pack(int index, const PackOptions& options, cudaStream_t stream) const;
  /// All weights, each with its own low rank and bias, or without both, and their Y.
  std::vector<Product24> products(int index, bool low_rank) const;
  /// All weights on the packed input, each with its own low rank and bias, or without both.
  void product(int index, const gpu::Gemm24Config& config, bool low_rank,
               cudaStream_t stream) const;
  /// X to codes [M, K] of e4m3, and the rows' units [M].
  void quantize(int index, void* codes, float* units, cudaStream_t stream) const;
  void produce_dense(int index, cudaStream_t stream) const;  // into `dense`

 private:
  void draw_shared(cudaStream_t stream);
  OperandSet draw_set(std::uint64_t seed, cudaStream_t stream) const;
  std::int64_t sets_needed() const;
  gpu::Workspace workspace() const { return {workspace_.data(), workspace_.bytes()}; }
  gpu::PackedInput packed(int index, bool low_rank) const;
  ConstMatrixView view(const DeviceBuffer& buffer, std::int64_t rows, std::int64_t columns) const;

  Shape shape_;
  DType dtype_;
  std::uint64_t seed_;
  DeviceBuffer down_, up_, bias_, modulation_scale_, modulation_shift_, transform_;
  DeviceBuffer workspace_;
  std::vector<OperandSet> sets_;
};

/// cuSPARSELt's view of the same sets.
class SparseRival {
 public:
  SparseRival(const CusparseLt& library, const Problem& problem, cudaStream_t stream);

  const void* pruned(int index) const { return pruned_[static_cast<std::size_t>(index)].data(); }
  void compress(int index, cudaStream_t stream) const;
  void gemm(int index, cudaStream_t stream) const;

 private:
  const Problem& problem_;
  SparseMatmul matmul_;
  std::vector<DeviceBuffer> pruned_;  // [M rounded up, K]
  std::vector<DeviceBuffer> compressed_;
};

}  // namespace rtlynx::benchmark
