// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace rtlynx::gpu {

/// How the workspace of stream-K is divided: a flag per CTA and warpgroup, then a partial tile per
/// CTA. Flags are zero between calls.
class Gemm24Workspace {
 public:
  static constexpr int kFlagsPerCta = 4;

  Gemm24Workspace(void* base, int ctas) : base_(static_cast<char*>(base)), ctas_(ctas) {}

  std::uint32_t* flags() const { return reinterpret_cast<std::uint32_t*>(base_); }
  float* partials() const {
    return base_ == nullptr ? nullptr : reinterpret_cast<float*>(base_ + flag_bytes(ctas_));
  }

  static constexpr std::size_t bytes(int ctas, int tile_tokens, int tile_outputs) {
    return flag_bytes(ctas) + static_cast<std::size_t>(ctas) * tile_tokens * tile_outputs * 4;
  }

 private:
  static constexpr std::size_t flag_bytes(int ctas) {
    return (static_cast<std::size_t>(ctas) * kFlagsPerCta * 4 + 255) / 256 * 256;
  }

  char* base_;
  int ctas_;
};

}  // namespace rtlynx::gpu
