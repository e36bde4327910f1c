// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "benchmark/cublaslt.h"
#include "benchmark/cusparselt.h"
#include "benchmark/e4m3_problem.h"
#include "benchmark/options.h"
#include "benchmark/problem.h"
#include "benchmark/timing.h"
#include "benchmark/weight_problem.h"

namespace rtlynx::benchmark {

/// The rivals' libraries, or why one is not there.
struct Libraries {
  explicit Libraries(const std::vector<std::string>& folders);

  std::unique_ptr<CublasLt> cublaslt;
  std::string cublaslt_missing;
  std::unique_ptr<CusparseLt> cusparselt;
  std::string cusparselt_missing;
};

/// Everyone who runs on one shape, searched and ready.
struct Contenders {
  Contenders(const Shape& shape, const Options& options, const Libraries& libraries,
             const gpu::DeviceTraits& device, Timer& timer);

  bool packs_gemm() const { return gemm.config.path != gpu::Gemm24Config::Path::dense; }
  bool packs_linear() const { return linear.config.path != gpu::Gemm24Config::Path::dense; }

  Problem problem;
  gpu::Gemm24Choice gemm;    // rank 0
  gpu::Gemm24Choice linear;  // rank kRank of each weight
  std::unique_ptr<DenseMatmul> dense;
  std::unique_ptr<DenseMatmul> dense_bias;
  std::string dense_missing;
  std::unique_ptr<SparseRival> sparse;
  std::string sparse_missing;
  std::unique_ptr<E4m3Problem> e4m3;  // where its section is wanted
  std::string e4m3_missing, e4m3_dense_missing;
  std::unique_ptr<WeightProblem> weight, e4m3_weight;  // the same
  std::string weight_missing;

 private:
  void prepare_e4m3(const CublasLt* library, const gpu::DeviceTraits& device, Timer& timer);
  void prepare_weights(const CublasLt* library, const gpu::DeviceTraits& device, Timer& timer);
  void search_dense(const CublasLt& library, bool with_bias, Timer& timer);
};

}  // namespace rtlynx::benchmark
