// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/host_device.h"
#include "rtlynx/operand24.h"

/// Where device code finds what in a tile of the packed operand (rtlynx/operand24.h).
namespace rtlynx {

/// Bytes of a tile of e4m3: device code calls no constexpr function of the host's.
inline constexpr int kPackedTileBytesE4m3 = packed_tile_bytes(OperandWidth::k8);

/// Rows of four 16-byte chunks, permuted so that eight rows of one chunk lie in different banks.
/// The packed values lie so; the low-rank tiles of the GEMM borrow the order.
RTLYNX_HOST_DEVICE constexpr int narrow_chunk_offset(int row, int chunk) {
  return row * 64 + (chunk ^ (row / 2 % 4)) * 16;
}

/// The eight kept values of channels 16 * block .. + 15 of `token`: one chunk.
RTLYNX_HOST_DEVICE constexpr int packed_chunk_offset(int token, int block) {
  return narrow_chunk_offset(token, block);
}

/// The word of `lane` for the 16 tokens of `slice`.
RTLYNX_HOST_DEVICE constexpr int packed_word_offset(int slice, int lane) {
  return kPackedTileValueBytes + (slice * kOperandTileWords + lane) * 4;
}

/// The 16 bits of metadata, four nibbles, of channels 16 * block .. + 15 of `token`.
RTLYNX_HOST_DEVICE constexpr int packed_metadata_offset(int token, int block) {
  return packed_word_offset(token / 16, token % 8 * 4 + block) + token / 8 % 2 * 2;
}

}  // namespace rtlynx
