// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/workspace.h"
#include "rtlynx/operand24.h"

namespace rtlynx::pack {

/// How the workspace of the Hopper pack kernel is divided: a count per CTA of how many parts have
/// arrived, zero between calls, then two parts per CTA (runs.h). A part is the sums of squares of
/// 128 tokens, 16 bytes each, and their columns of H in fp32.
class Workspace {
 public:
  static constexpr int kTileTokens = 2 * kPackedTileTokens;
  static constexpr int kMostCtasPerSm = 2;

  /// `base` null: there is none.
  Workspace(void* base, int multiprocessors)
      : base_(static_cast<char*>(base)), multiprocessors_(multiprocessors) {}

  std::uint32_t* arrivals() const { return reinterpret_cast<std::uint32_t*>(base_); }
  void* parts() const {
    return base_ == nullptr ? nullptr : base_ + gpu::zeroed_bytes(multiprocessors_);
  }

  static constexpr std::size_t part_bytes(int columns) {
    return static_cast<std::size_t>(kTileTokens) * (16 + 4 * static_cast<std::size_t>(columns));
  }

  /// For any number of tokens and channels. A CTA of runs computes up to 64 columns of H, or 128
  /// with the multiprocessor to itself.
  static constexpr std::size_t bytes(int multiprocessors, int low_columns) {
    const std::size_t ctas = static_cast<std::size_t>(multiprocessors) * kMostCtasPerSm;
    return gpu::zeroed_bytes(multiprocessors) + 2 * ctas * part_bytes(low_columns == 0 ? 0 : 64);
  }

 private:
  char* base_;
  int multiprocessors_;
};

}  // namespace rtlynx::pack
