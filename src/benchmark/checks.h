// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "benchmark/contenders.h"
#include "benchmark/results.h"
#include "benchmark/sampler.h"

namespace rtlynx::benchmark {

/// A contender computed something else than it should: shape, contender, required, got.
class WrongResult : public Error {
 public:
  using Error::Error;
};

/// Packs a small ragged matrix with ties and compares the operand with the CPU's, bit for bit, and
/// scale and low rank with fp64. Throws WrongResult.
void check_small_pack(DType dtype, std::uint64_t seed, cudaStream_t stream);

/// Compares every contender on one shape with fp64 products of the operands that it read. What is
/// allowed is twice the error of dense cuBLASLt on X~, or of a plain fp32 sum where it is missing.
class ShapeChecks {
 public:
  ShapeChecks(const Contenders& contenders, std::uint64_t seed, cudaStream_t stream);

  /// All of them; throws WrongResult at the first that is wrong.
  std::vector<Check> check_all(bool with_fused);

  /// The packed GEMM of rank 0 in this configuration.
  Check check_gemm(const gpu::Gemm24Config& config, const std::string& contender);

 private:
  void expand_operand();
  SampledProduct product(bool low_rank) const;
  void check_rows();
  void check_linear(const std::string& contender, bool produced);
  void check_produced();
  void check_dense_bias();
  void check_sparse();
  std::vector<double> result_of(const std::function<void()>& call);
  Check record(const std::string& contender, double error, double allowed);

  const Contenders& contenders_;
  const Problem& problem_;
  cudaStream_t stream_;
  Sampler sampler_;
  std::vector<double> exact_;  // s * X~ W^T
  double allowed_ = 0;
  std::vector<Check> checks_;
};

}  // namespace rtlynx::benchmark
