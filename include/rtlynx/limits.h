// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// What the GPU kernels take. One table: argument checks, selection and operators read it.
namespace rtlynx {

inline constexpr int kMaxProducts = 4;      // weights that read one packed input in one call
inline constexpr int kMaxRank = 128;        // columns of the low rank of one weight
inline constexpr int kMaxLowColumns = 256;  // of all weights together
inline constexpr int kRankMultiple = 16;
inline constexpr int kChannelMultiple = 16;                      // K
inline constexpr int kOutputMultiple = 8;                        // N
inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 30;  // M, N, K
inline constexpr int kLeastComputeCapability = 80;

}  // namespace rtlynx
