// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rtlynx::gpu {

/// What host code knows of the sm_90a kernel: the tile of a CTA, and the shared memory it takes.
/// Where the input is sparse, rows of the sparse operand are tokens and those of the dense one
/// outputs; where weights are, the other way round.
inline constexpr int kSm90SparseRows = 128;
inline constexpr int kSm90DenseRows = 256;
inline constexpr int kSm90TileTokens = kSm90SparseRows;
inline constexpr int kSm90TileOutputs = kSm90DenseRows;
inline constexpr int kSm90SharedBytes = 232448;

}  // namespace rtlynx::gpu
