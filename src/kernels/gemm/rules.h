// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernels/check.h"
#include "rtlynx/gpu/product24.h"

/// What GPU products of both kinds ask for beyond their specifications. Each throws Error naming
/// `op`.
namespace rtlynx::gpu {

/// TMA and 16-byte accesses want rows that begin on 16 bytes.
void check_rows(std::string_view op, std::string_view name, ConstMatrixView matrix);

void check_sizes(std::string_view op, std::int64_t tokens, std::int64_t channels);
void check_outputs(std::string_view op, std::int64_t outputs);
void check_workspace(std::string_view op, const Gemm24Config& config, const Workspace& workspace,
                     const DeviceTraits& device);

/// Product: Product24 or WeightProduct24.
template <typename Product>
void check_low_and_epilogue(std::string_view op, const Product& product, std::int64_t rank) {
  require(product.up.columns == rank, op, "one rank for all products", "several");
  require(product.low_column % kRankMultiple == 0, op, "a first column of low divisible by 16",
          std::to_string(product.low_column));
  check_rows(op, "up", product.up);
  check_rows(op, "gate", product.gate);
  check_rows(op, "residual", product.residual);
  check_rows(op, "y", product.y);
  check_pointer(op, "bias", product.bias, /*optional=*/true);
}

/// How many they are, and their rank, which it returns.
template <typename Product>
std::int64_t check_count_and_rank(std::string_view op, std::span<const Product> products) {
  if (products.empty() || products.size() > kMaxProducts) {
    fail(op, "1 to " + std::to_string(kMaxProducts) + " products", std::to_string(products.size()));
  }
  const std::int64_t rank = products.front().up.columns;
  require(rank % kRankMultiple == 0 && rank <= kMaxRank, op, "a rank of 0 to 128, divisible by 16",
          std::to_string(rank));
  return rank;
}

}  // namespace rtlynx::gpu
