// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rtlynx/dtype.h"

/// 2:4-sparse GEMMs by cuSPARSELt, loaded at run time by the part of its binary interface that is
/// used here, which is that of version 0.8.
namespace rtlynx::benchmark {

class CusparseLt {
 public:
  /// Throws Error if the library cannot be loaded or is older than 0.8.
  explicit CusparseLt(const std::vector<std::string>& folders);
  ~CusparseLt();
  CusparseLt(const CusparseLt&) = delete;
  CusparseLt& operator=(const CusparseLt&) = delete;

  const std::string& path() const;
  std::string version() const;

  struct Api;
  const Api& api() const { return *api_; }

 private:
  std::unique_ptr<Api> api_;
};

/// Y [M, N] = X~ [M, K] W [N, K]^T with the sparsity in X and fp32 accumulation, all row-major and
/// contiguous. M is a multiple of 16.
class SparseMatmul {
 public:
  SparseMatmul(const CusparseLt& library, std::int64_t tokens, std::int64_t outputs,
               std::int64_t channels, DType dtype);
  ~SparseMatmul();
  SparseMatmul(const SparseMatmul&) = delete;
  SparseMatmul& operator=(const SparseMatmul&) = delete;

  /// The pruning of 2 in 4 along the channels.
  void prune(const void* x, void* pruned, cudaStream_t stream) const;

  /// The library's own search, which may change the size and order of what compress() writes.
  void search(const void* pruned, const void* weight, void* y, cudaStream_t stream);

  std::size_t compressed_bytes() const;
  void compress(const void* pruned, void* compressed, cudaStream_t stream) const;

  void run(const void* compressed, const void* weight, void* y, cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rtlynx::benchmark
