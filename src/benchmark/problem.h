// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "benchmark/cusparselt.h"
#include "benchmark/device.h"
#include "benchmark/producers.h"
#include "benchmark/shapes.h"
#include "rtlynx/gpu/gemm24.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::benchmark {

/// Rank of the residual and block of the transform in the figures.
inline constexpr int kRank = 64;
inline constexpr int kTransformBlock = 64;

/// cuSPARSELt wants rows in multiples of this.
inline constexpr std::int64_t kSparseRowAlignment = 16;

/// What a call reads and writes. Several sets, so that calls in turn find nothing in the L2.
struct OperandSet {
  DeviceBuffer x;        // [M, K]
  DeviceBuffer up_half;  // [M, K]: the other input of SwiGLU; empty for other producers
  DeviceBuffer weight;   // [N, K]
  DeviceBuffer dense;    // [M, K]: X~, the output of a dense producer, or a copy
  DeviceBuffer operand;  // packed X
  DeviceBuffer scale;    // [M] fp32
  DeviceBuffer low;      // [M, kRank]
  DeviceBuffer y;        // [M rounded up, N]
};

struct PackOptions {
  bool low_rank = false;
  bool transform = false;
  gpu::Producer producer = gpu::Producer::none;
  void* selected_from = nullptr;
};

/// One shape with random operands in device memory.
class Problem {
 public:
  Problem(const Shape& shape, DType dtype, std::uint64_t seed, cudaStream_t stream);

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  gpu::Gemm24Shape gemm_shape(int rank) const;
  std::int64_t padded_tokens() const;
  gpu::Producer producer() const { return producer_of(shape_); }
  bool has_transform() const { return shape_.channels % kTransformBlock == 0; }

  int sets() const { return static_cast<int>(sets_.size()); }
  const OperandSet& set(int index) const { return sets_[static_cast<std::size_t>(index)]; }
  const void* up() const { return up_.data(); }      // [N, kRank]
  const void* bias() const { return bias_.data(); }  // [N], of dtype
  const float* bias_float() const { return bias_float_.as<float>(); }

  /// Stream-K's workspace, large enough for `config` from now on.
  void reserve_workspace(const gpu::Gemm24Config& config, const gpu::DeviceTraits& device);

  void pack(int index, const PackOptions& options, cudaStream_t stream) const;
  void unpack(int index, cudaStream_t stream) const;  // into `dense`
  /// Rank 0, without scale and bias.
  void gemm(int index, const gpu::Gemm24Config& config, cudaStream_t stream) const;
  /// With low rank, scale and bias.
  void full_gemm(int index, const gpu::Gemm24Config& config, bool follows_pack,
                 cudaStream_t stream) const;
  void produce_dense(int index, cudaStream_t stream) const;  // into `dense`

 private:
  void draw_shared(cudaStream_t stream);
  OperandSet draw_set(std::uint64_t seed, cudaStream_t stream) const;
  std::int64_t sets_needed() const;
  gpu::Gemm24 plain_problem(int index) const;

  Shape shape_;
  DType dtype_;
  std::uint64_t seed_;
  DeviceBuffer down_, up_, bias_, bias_float_, multiplier_, shift_, transform_;
  DeviceBuffer pack_workspace_, workspace_;
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
