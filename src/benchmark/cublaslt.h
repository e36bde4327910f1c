// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rtlynx/dtype.h"

/// Dense GEMMs by cuBLASLt, loaded at run time by the part of its binary interface that is used
/// here, which versions 12 and 13 share.
namespace rtlynx::benchmark {

class CublasLt {
 public:
  /// Throws Error if the library cannot be loaded.
  explicit CublasLt(const std::vector<std::string>& folders);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  const std::string& path() const;
  std::string version() const;

  struct Api;
  const Api& api() const { return *api_; }

 private:
  std::unique_ptr<Api> api_;
};

struct DenseProblem {
  std::int64_t tokens = 0;
  std::int64_t outputs = 0;
  std::int64_t channels = 0;
  DType dtype = DType::bf16;   // f16 and bf16: of all; e4m3: of X and W, Y is bf16
  const void* bias = nullptr;  // [N], of the type of Y; null: none

  // e4m3, in device memory: factors of the rows of X [M] and of W [N], or none of both.
  const float* token_scale = nullptr;
  const float* weight_scale = nullptr;
};

/// Y [M, N] = X [M, K] W [N, K]^T (+ bias), all row-major and contiguous; accumulated in fp32, of
/// e4m3 with the library's fast accumulation.
class DenseMatmul {
 public:
  /// Asks for all algorithms, up to 64, with a workspace of 64 MiB. Throws Error if there is none.
  DenseMatmul(const CublasLt& library, const DenseProblem& problem);
  ~DenseMatmul();
  DenseMatmul(const DenseMatmul&) = delete;
  DenseMatmul& operator=(const DenseMatmul&) = delete;

  using Measure = std::function<double(const std::function<void()>&)>;
  /// Keeps the algorithm for which `measure` is smallest, of those that run on these operands.
  /// Gives its time.
  double search(const Measure& measure, const void* x, const void* weight, void* y,
                cudaStream_t stream);

  /// The algorithm found, or the library's first choice before a search.
  void run(const void* x, const void* weight, void* y, cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rtlynx::benchmark
