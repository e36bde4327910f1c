// SPDX-License-Identifier: Apache-2.0
#include "benchmark/contenders.h"

#include "base/error.h"
#include "benchmark/config_name.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kSearchRepeats = 7;

gpu::Gemm24Choice choose(const Problem& problem, int rank, const std::string& forced,
                         const gpu::DeviceTraits& device) {
  if (!forced.empty()) return {parse_config(forced), "forced by --config"};
  return gpu::select_gemm24(problem.gemm_shape(rank), device);
}

}  // namespace

Libraries::Libraries(const std::vector<std::string>& folders) {
  try {
    cublaslt = std::make_unique<CublasLt>(folders);
  } catch (const Error& error) {
    cublaslt_missing = error.what();
  }
  try {
    cusparselt = std::make_unique<CusparseLt>(folders);
  } catch (const Error& error) {
    cusparselt_missing = error.what();
  }
}

Contenders::Contenders(const Shape& shape, const Options& options, const Libraries& libraries,
                       const gpu::DeviceTraits& device, Timer& timer)
    : problem(shape, options.element(), options.seed, timer.stream()),
      gemm(choose(problem, 0, options.config, device)),
      linear(choose(problem, kRank, options.config, device)),
      dense_missing(libraries.cublaslt_missing),
      sparse_missing(libraries.cusparselt_missing) {
  if (packs_gemm()) problem.reserve_workspace(gemm.config, device);
  if (packs_linear()) problem.reserve_workspace(linear.config, device);
  if (libraries.cublaslt != nullptr) {
    search_dense(*libraries.cublaslt,
                 options.wants("linear") || options.wants("fused") || options.wants("e4m3") ||
                     options.wants_weights(),
                 timer);
  }
  if (libraries.cusparselt != nullptr && (options.wants("gemm") || options.wants("pack"))) {
    try {
      sparse = std::make_unique<SparseRival>(*libraries.cusparselt, problem, timer.stream());
    } catch (const Error& error) {
      sparse_missing = error.what();
    }
  }
  if (options.wants("e4m3") || options.wants_weights()) {
    prepare_e4m3(libraries.cublaslt.get(), device, timer);
  }
  if (options.wants_weights()) prepare_weights(libraries.cublaslt.get(), device, timer);
}

void Contenders::prepare_e4m3(const CublasLt* library, const gpu::DeviceTraits& device,
                              Timer& timer) {
  if (device.compute_capability != 90) {
    e4m3_missing = "it needs a GPU of compute capability 9.0";
    return;
  }
  if (problem.dtype() != DType::bf16) {
    e4m3_missing = "it is checked, and so timed, in bf16 alone";
    return;
  }
  e4m3 = std::make_unique<E4m3Problem>(problem, device, timer.stream());
  e4m3_dense_missing = dense_missing;
  if (library == nullptr) return;
  try {
    e4m3->search_dense(*library, timer);
  } catch (const Error& error) {
    e4m3_dense_missing = error.what();
  }
}

void Contenders::prepare_weights(const CublasLt* library, const gpu::DeviceTraits& device,
                                 Timer& timer) {
  if (e4m3 == nullptr) {  // where e4m3 runs, sparse weights run
    weight_missing = e4m3_missing;
    return;
  }
  weight = std::make_unique<WeightProblem>(problem, problem.dtype(), device, timer.stream());
  e4m3_weight = std::make_unique<WeightProblem>(problem, DType::e4m3, device, timer.stream());
  if (library == nullptr) return;
  weight->search_down(*library, timer);
  e4m3_weight->search_down(*library, timer);
}

void Contenders::search_dense(const CublasLt& library, bool with_bias, Timer& timer) {
  const OperandSet& operands = problem.set(0);
  const auto searched = [&](const void* bias) {
    auto matmul = std::make_unique<DenseMatmul>(
        library, DenseProblem{.tokens = problem.shape().tokens,
                              .outputs = problem.shape().all_outputs(),
                              .channels = problem.shape().channels,
                              .dtype = problem.dtype(),
                              .bias = bias});
    matmul->search([&](const auto& call) { return timer.cold_median(call, kSearchRepeats); },
                   operands.x.data(), operands.weight.data(), operands.y.data(), timer.stream());
    return matmul;
  };
  try {
    dense = searched(nullptr);
    if (with_bias) dense_bias = searched(problem.bias());
  } catch (const Error& error) {
    dense_missing = error.what();
  }
}

}  // namespace rtlynx::benchmark
