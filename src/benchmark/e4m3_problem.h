// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "benchmark/codes.h"
#include "benchmark/cublaslt.h"
#include "benchmark/problem.h"
#include "benchmark/results.h"
#include "benchmark/timing.h"

namespace rtlynx::benchmark {

/// The same shape in e4m3: ours sparse, and the dense rival's, both on the operand sets of the
/// 16-bit problem.
class E4m3Problem {
 public:
  E4m3Problem(const Problem& problem, const gpu::DeviceTraits& device, cudaStream_t stream);

  /// Searches the rival's products, without scales and with one for each row. Throws Error where
  /// the library has none.
  void search_dense(const CublasLt& library, Timer& timer);

  /// Factors and pack, with the low rank or without.
  void pack(int set, bool low_rank, cudaStream_t stream) const;
  /// On the packed input; with low rank and bias, or without both.
  void product(int set, bool low_rank, cudaStream_t stream) const;

  bool has_dense() const { return dense_ != nullptr; }
  /// The rival's product of codes: the faster of the two scalings.
  void dense(int set, cudaStream_t stream) const;
  /// One pass that quantises each row, then the product with the rows' scales and the bias.
  void dense_linear(int set, cudaStream_t stream) const;

  /// Both products of set 0 against fp64 on the same codes. Throws WrongResult.
  std::vector<Check> check(std::uint64_t seed, cudaStream_t stream) const;

 private:
  struct Set {
    DeviceBuffer weight;   // [N, K] codes
    DeviceBuffer x;        // [M, K] codes, dense
    DeviceBuffer x_scale;  // [M]
    DeviceBuffer factors;  // [M]
    DeviceBuffer operand;
    DeviceBuffer scale;  // [M]
    DeviceBuffer low;    // [M, kRank of each weight]
  };

  void draw(Set& set, int index, cudaStream_t stream) const;
  Rows x_of(int set) const;
  gpu::PackedInput packed(int set, bool low_rank) const;
  gpu::Workspace workspace() const { return {workspace_.data(), workspace_.bytes()}; }

  const Problem& problem_;
  gpu::Gemm24Config config_;
  std::vector<Set> sets_;
  DeviceBuffer workspace_, weight_scale_, bias_;
  std::unique_ptr<DenseMatmul> dense_, dense_bias_;
  bool dense_has_scales_ = false;
};

}  // namespace rtlynx::benchmark
