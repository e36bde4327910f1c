// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

/// Pictures or latents [B, C, H, W] -> tokens [B, (H/p)(W/p), C p p]; a token's channels are
/// ordered (c, dy, dx) and tokens run along rows, as FLUX packs its latents.
torch::Tensor tokens_from_pixels(const torch::Tensor& pixels, std::int64_t patch);

/// The inverse of tokens_from_pixels for a picture of height x width.
torch::Tensor pixels_from_tokens(const torch::Tensor& tokens, std::int64_t patch,
                                 std::int64_t height, std::int64_t width);

/// Positions (0, row, column) of the tokens of a rows x columns grid: [rows * columns, 3].
torch::Tensor image_position_ids(std::int64_t rows, std::int64_t columns);

}  // namespace rtlynx
