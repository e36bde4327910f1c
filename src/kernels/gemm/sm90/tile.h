// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rtlynx::gpu {

/// What host code knows of the sm_90a kernel: the tile of Y of a CTA, and the shared memory it
/// takes.
inline constexpr int kSm90TileTokens = 128;
inline constexpr int kSm90TileOutputs = 256;
inline constexpr int kSm90SharedBytes = 232448;

}  // namespace rtlynx::gpu
