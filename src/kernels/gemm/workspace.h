// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/workspace.h"

namespace rtlynx::gpu {

/// How the workspace of stream-K is divided: a flag per CTA and warpgroup, zero between calls, then
/// a partial tile per CTA.
class Gemm24Workspace {
 public:
  static constexpr int kFlagsPerCta = 4;  // as zeroed_bytes has room for

  Gemm24Workspace(void* base, int ctas) : base_(static_cast<char*>(base)), ctas_(ctas) {}

  std::uint32_t* flags() const { return reinterpret_cast<std::uint32_t*>(base_); }
  float* partials() const {
    return base_ == nullptr ? nullptr : reinterpret_cast<float*>(base_ + zeroed_bytes(ctas_));
  }

  static constexpr std::size_t bytes(int ctas, int tile_tokens, int tile_outputs) {
    return zeroed_bytes(ctas) + static_cast<std::size_t>(ctas) * tile_tokens * tile_outputs * 4;
  }

 private:
  char* base_;
  int ctas_;
};

}  // namespace rtlynx::gpu
