// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/device/host_device.h"

/// Which CTA of the Hopper pack kernel has which channels of which tokens.
namespace rtlynx::pack {

/// Steps [first_step, end_step) along the channels of a block of tokens.
struct Piece {
  int block;
  int first_step;
  int end_step;
};

/// The steps of all blocks, one block after the other, cut into `ctas` runs of equal length, give
/// or take one: however many blocks there are, all multiprocessors are busy to the end. A run may
/// be a piece of one block, or the end of one, whole ones and the beginning of another. With a
/// multiple of the number of blocks every run is a piece of one block.
class Runs {
 public:
  constexpr Runs(int blocks, int steps, int ctas)
      : steps_(steps),
        length_(((static_cast<std::uint64_t>(blocks) * static_cast<std::uint64_t>(steps) << 32) +
                 static_cast<std::uint64_t>(ctas) - 1) /
                static_cast<std::uint64_t>(ctas)),
        ctas_per_step_(ctas / (static_cast<double>(blocks) * steps)) {}

  /// Of a block.
  RTLYNX_HOST_DEVICE constexpr int steps() const { return steps_; }

  /// The run of a CTA is [begin(cta), begin(cta + 1)) of all steps.
  RTLYNX_HOST_DEVICE constexpr int begin(int cta) const {
    return static_cast<int>(length_ * static_cast<std::uint64_t>(cta) >> 32);
  }

  /// What a CTA does from step `at` of its run on, which ends at `end`.
  RTLYNX_HOST_DEVICE constexpr Piece piece(int at, int end) const {
    const int block = at / steps_;
    const int first = at - block * steps_, left = end - block * steps_;
    return {block, first, left < steps_ ? left : steps_};
  }

  /// The CTAs with pieces of a block are first_cta(block) .. last_cta(block).
  RTLYNX_HOST_DEVICE constexpr int first_cta(int block) const { return cta_of(block * steps_); }
  RTLYNX_HOST_DEVICE constexpr int last_cta(int block) const {
    return cta_of((block + 1) * steps_ - 1);
  }

 private:
  /// The last CTA whose run begins at this step or before.
  RTLYNX_HOST_DEVICE constexpr int cta_of(int at) const {
    int cta = static_cast<int>(at * ctas_per_step_);  // give or take one
    while (begin(cta) > at) --cta;
    while (begin(cta + 1) <= at) ++cta;
    return cta;
  }

  int steps_;
  std::uint64_t length_;  // of a run, in units of 2^-32 steps, rounded up
  double ctas_per_step_;
};

/// Where CTAs leave what they added up for a piece of a block that others have pieces of, too: a
/// CTA has at most one that begins within its block and one that begins with it.
RTLYNX_HOST_DEVICE constexpr int part_of(int cta, bool begins_block) {
  return 2 * cta + (begins_block ? 1 : 0);
}

}  // namespace rtlynx::pack
