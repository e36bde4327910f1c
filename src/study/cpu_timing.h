// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rtlynx {

/// Medians for one layer Y [M, N] = X [M, K] W^T + b in fp32 on the CPU.
struct CpuTiming {
  std::string name;
  std::int64_t tokens = 0, outputs = 0, channels = 0;
  double dense_ms = 0;
  double sparsify24_ms = 0;
  double linear24_ms = 0;
};

/// Times the operators against a dense Linear on the CPU, dense and sparse calls in turn. Each
/// result is verified before it is timed: throws Error if one is wrong. `finished` is called with
/// every layer's figures.
std::vector<CpuTiming> time_cpu_linears(int repeats, std::uint64_t seed,
                                        const std::function<void(const CpuTiming&)>& finished);

}  // namespace rtlynx
