// SPDX-License-Identifier: Apache-2.0
#include "io/png_chunks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx::png {
namespace {

constexpr std::array<unsigned char, kSignatureBytes> kSignature = {0x89, 'P',  'N',  'G',
                                                                   '\r', '\n', 0x1a, '\n'};
constexpr std::uint32_t kMaxChunkBytes = 0x7fffffff;

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}();

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

/// Takes one chunk off `rest`; `offset` is where it begins in the file.
Chunk take_chunk(std::span<const std::byte>& rest, std::size_t offset, std::string_view what) {
  const std::string place = fmt::format("{}, chunk at byte {}", what, offset);
  if (rest.size() < kChunkOverhead) {
    fail(place, fmt::format("at least {} bytes", kChunkOverhead),
         fmt::format("{} up to the end of the file", rest.size()));
  }
  const std::uint32_t size = load_u32(rest);
  if (size > kMaxChunkBytes || size > rest.size() - kChunkOverhead) {
    fail(place, fmt::format("{} bytes of data", size),
         fmt::format("{} up to the end of the file", rest.size() - kChunkOverhead));
  }
  const auto checked = rest.subspan(4, 4 + size);
  const std::string_view type(reinterpret_cast<const char*>(checked.data()), 4);
  if (!std::ranges::all_of(type, is_letter)) fail(place, "a type of four letters", in_quotes(type));
  const std::uint32_t stored = load_u32(rest.subspan(8 + size));
  const std::uint32_t computed = crc32(checked);
  if (stored != computed) {
    fail(fmt::format("{} ({})", place, type), fmt::format("checksum {:08x}", computed),
         fmt::format("{:08x}", stored));
  }
  rest = rest.subspan(kChunkOverhead + size);
  return {type, checked.subspan(4)};
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t c = 0xffffffffu;
  for (const std::byte b : bytes) {
    c = kCrcTable[(c ^ std::to_integer<std::uint32_t>(b)) & 0xff] ^ (c >> 8);
  }
  return ~c;
}

std::uint32_t load_u32(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const std::byte b : bytes.first(4)) value = value << 8 | std::to_integer<std::uint32_t>(b);
  return value;
}

void append_u32(std::vector<std::byte>& to, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(std::byte(value >> shift & 0xff));
}

void append_chunk(std::vector<std::byte>& to, std::string_view type,
                  std::span<const std::byte> data) {
  require(data.size() <= kMaxChunkBytes, fmt::format("PNG chunk {}", type), "less than 2 GiB",
          fmt::format("{} bytes", data.size()));
  append_u32(to, static_cast<std::uint32_t>(data.size()));
  const std::size_t checked_from = to.size();
  for (const char c : type) to.push_back(std::byte(c));
  to.insert(to.end(), data.begin(), data.end());
  append_u32(to, crc32(std::span(to).subspan(checked_from)));
}

std::vector<Chunk> parse_chunks(std::span<const std::byte> png, std::string_view what) {
  const auto is_same = [](std::byte a, unsigned char b) { return a == std::byte{b}; };
  const auto signature = png.first(std::min(png.size(), kSignatureBytes));
  if (!std::ranges::equal(signature, kSignature, is_same)) {
    fail(what, "a PNG file", "another signature");
  }
  std::vector<Chunk> chunks;
  auto rest = png.subspan(kSignatureBytes);
  while (chunks.empty() || chunks.back().type != "IEND") {
    chunks.push_back(take_chunk(rest, png.size() - rest.size(), what));
    const bool is_header = chunks.back().type == "IHDR";
    if (is_header != (chunks.size() == 1)) {
      fail(what, "IHDR as the first chunk, once",
           fmt::format("{} as chunk {}", chunks.back().type, chunks.size()));
    }
    if (is_header && chunks.back().data.size() != kHeaderBytes) {
      fail(what, fmt::format("{} bytes in IHDR", kHeaderBytes),
           fmt::format("{}", chunks.back().data.size()));
    }
  }
  return chunks;
}

}  // namespace rtlynx::png
