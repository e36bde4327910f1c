// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "base/libtorch.h"
#include "models/z_image/config.h"

namespace rtlynx {

/// How the tokens of a batch lie. Each image's patches, and its caption, are padded to a multiple
/// of 32 with a learned token, which attends as any other; where captions differ in length, rows of
/// zeros that nobody reads stand behind the shorter ones. The joint sequence is [image, caption].
struct ZImageSequence {
  std::int64_t rows = 0, columns = 0;  // patches
  std::vector<std::int64_t> captions;  // tokens of each

  std::int64_t batch() const { return static_cast<std::int64_t>(captions.size()); }
  std::int64_t patches() const { return rows * columns; }
  std::int64_t image_tokens() const { return padded(patches()); }
  /// Of the longest, padded.
  std::int64_t caption_tokens() const;
  /// Whether padded captions differ in length.
  bool is_ragged() const;
  std::int64_t joint_tokens() const { return image_tokens() + caption_tokens(); }

  static std::int64_t padded(std::int64_t tokens) { return (tokens + 31) / 32 * 32; }
};

/// Where the tokens stand: int64 [B, image_tokens + caption_tokens, 3]. Token i of a caption,
/// padded ones included, is at (1 + i, 0, 0); a patch at (1 + padded caption, row, column); an
/// image's padding at the origin.
torch::Tensor z_image_positions(const ZImageSequence& sequence);

/// The rotations there, complex64 [.., head_dim / 2].
torch::Tensor z_image_rotation(const torch::Tensor& positions, const ZImageConfig& config);

/// Which keys of the joint sequence count: bool [B, 1, 1, S], or undefined if all do.
torch::Tensor z_image_mask(const ZImageSequence& sequence, torch::Device device);

}  // namespace rtlynx
