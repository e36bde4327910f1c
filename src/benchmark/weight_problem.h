// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/cublaslt.h"
#include "benchmark/problem.h"
#include "benchmark/results.h"
#include "benchmark/timing.h"
#include "rtlynx/gpu/weight24.h"

namespace rtlynx::benchmark {

/// The same shape with its weights as the sparse operand, pruned by magnitude, and the input dense:
/// on the operand sets of the problem, in its type or in e4m3.
class WeightProblem {
 public:
  WeightProblem(const Problem& problem, DType values, const gpu::DeviceTraits& device,
                cudaStream_t stream);

  /// Searches the product that gives the low rank of all weights, X down^T. Throws Error where the
  /// library has none.
  void search_down(const CublasLt& library, Timer& timer);
  bool has_down() const { return down_ != nullptr; }

  /// With low rank and bias, or without both.
  void product(int set, bool low_rank, cudaStream_t stream) const;
  /// The low rank's product, then product() with it. In e4m3 each row is quantised before, and the
  /// product of codes gives a low rank in their unit.
  void linear(int set, cudaStream_t stream) const;

  /// Both of set 0 against fp64 on the same operands. Throws WrongResult.
  std::vector<Check> check(std::uint64_t seed, cudaStream_t stream) const;

 private:
  struct Set {
    std::vector<DeviceBuffer> operands;  // one for each weight
    DeviceBuffer x;                      // [M, K] codes; empty in 16 bits
    DeviceBuffer x_scale;                // [M]
    DeviceBuffer low;                    // [M, kRank of each weight]
  };

  bool codes() const { return values_ == DType::e4m3; }
  const void* down() const;        // of all weights, [columns of low, K], type of the input
  const void* x(int index) const;  // codes, or the problem's
  void pack_weights(Set& set, int index, cudaStream_t stream) const;
  void draw(Set& set, int index, cudaStream_t stream) const;
  DenseInput24 input(int index, bool low_rank) const;
  std::vector<WeightProduct24> products(int index, bool low_rank) const;
  gpu::Workspace workspace() const { return {workspace_.data(), workspace_.bytes()}; }

  const Problem& problem_;
  DType values_;
  gpu::Gemm24Config config_;
  std::vector<Set> sets_;
  DeviceBuffer workspace_;
  DeviceBuffer down_codes_;
  std::unique_ptr<DenseMatmul> down_;
};

}  // namespace rtlynx::benchmark
