// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

// The container of PNG: a signature, then chunks of
//
//   u32 data size, big-endian | type, 4 letters | data | u32 CRC of type and data, big-endian
//
// of which IHDR is the first and IEND the last.
namespace rtlynx::png {

struct Chunk {
  std::string_view type;
  std::span<const std::byte> data;
};

constexpr std::size_t kSignatureBytes = 8;
constexpr std::size_t kChunkOverhead = 12;
constexpr std::size_t kHeaderBytes = 13;  // data of IHDR

std::uint32_t crc32(std::span<const std::byte> bytes);
std::uint32_t load_u32(std::span<const std::byte> bytes);
void append_u32(std::vector<std::byte>& to, std::uint32_t value);
void append_chunk(std::vector<std::byte>& to, std::string_view type,
                  std::span<const std::byte> data);

/// All chunks up to IEND, bounds and checksums verified; they point into `png`.
std::vector<Chunk> parse_chunks(std::span<const std::byte> png, std::string_view what);

}  // namespace rtlynx::png
