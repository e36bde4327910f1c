// SPDX-License-Identifier: Apache-2.0
#include "io/png.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/error.h"
#include "io/file.h"
#include "io/file_kind.h"
#include "io/png_chunks.h"
#include "io/stb_png.h"
#include "io/text.h"

namespace rtlynx {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{512} << 20;
constexpr std::uint64_t kMaxPixels = std::uint64_t{1} << 26;
constexpr std::size_t kMaxKeywordChars = 79;

/// Nothing when some character is not in Latin-1. `utf8` is valid.
std::optional<std::string> to_latin1(std::string_view utf8) {
  std::string latin1;
  while (!utf8.empty()) {
    const auto c = take_code_point(utf8);
    if (!c || *c > 0xff) return std::nullopt;
    latin1.push_back(static_cast<char>(static_cast<unsigned char>(*c)));
  }
  return latin1;
}

std::string from_latin1(std::string_view latin1) {
  std::string utf8;
  for (const char each : latin1) {
    const auto c = static_cast<unsigned char>(each);
    if (c < 0x80) {
      utf8.push_back(each);
    } else {
      utf8.push_back(static_cast<char>(0xc0 | c >> 6));
      utf8.push_back(static_cast<char>(0x80 | (c & 0x3f)));
    }
  }
  return utf8;
}

bool is_keyword(std::string_view latin1) {
  const auto is_printable = [](char each) {
    const auto c = static_cast<unsigned char>(each);
    return (c >= 32 && c <= 126) || c >= 161;
  };
  return !latin1.empty() && latin1.size() <= kMaxKeywordChars &&
         std::ranges::all_of(latin1, is_printable) && !latin1.starts_with(' ') &&
         !latin1.ends_with(' ') && latin1.find("  ") == std::string_view::npos;
}

void append_text(std::vector<std::byte>& png, const PngText& text) {
  const std::optional<std::string> keyword =
      is_utf8(text.keyword) ? to_latin1(text.keyword) : std::nullopt;
  if (!keyword || !is_keyword(*keyword)) {
    fail("PNG text",
         "a keyword of 1 to 79 printable Latin-1 characters without leading, trailing or double "
         "spaces",
         in_quotes(text.keyword));
  }
  if (!is_utf8(text.text) || text.text.find('\0') != std::string::npos) {
    fail(fmt::format("PNG text {}", in_quotes(text.keyword)), "UTF-8 without NUL",
         in_quotes(text.text));
  }
  std::string data = *keyword + '\0';
  if (const auto latin1 = to_latin1(text.text)) {
    png::append_chunk(png, "tEXt", std::as_bytes(std::span(data += *latin1)));
    return;
  }
  // not compressed, method 0, no language, no translated keyword
  data.append(4, '\0');
  png::append_chunk(png, "iTXt", std::as_bytes(std::span(data += text.text)));
}

/// Takes what stands before the next NUL, and the NUL, off `rest`.
std::string_view take_field(std::string_view& rest, std::string_view place) {
  const auto nul = rest.find('\0');
  if (nul == std::string_view::npos) fail(place, "a NUL after each field", "none");
  const std::string_view field = rest.substr(0, nul);
  rest.remove_prefix(nul + 1);
  return field;
}

std::optional<PngText> parse_text(const png::Chunk& chunk, std::string_view what) {
  const bool is_international = chunk.type == "iTXt";
  if (!is_international && chunk.type != "tEXt") return std::nullopt;
  const std::string place = fmt::format("{}, {} chunk", what, chunk.type);
  std::string_view rest = as_text(chunk.data);
  const std::string_view keyword = take_field(rest, place);
  if (keyword.empty() || keyword.size() > kMaxKeywordChars) {
    fail(place, "a keyword of 1 to 79 characters", fmt::format("{}", keyword.size()));
  }
  if (!is_international) return PngText{from_latin1(keyword), from_latin1(rest)};

  if (rest.size() < 2) fail(place, "a compression flag and method", "the end of the chunk");
  const bool is_compressed = rest[0] != 0;
  rest.remove_prefix(2);
  take_field(rest, place);  // language
  take_field(rest, place);  // translated keyword
  if (is_compressed) return std::nullopt;
  if (!is_utf8(rest)) fail(place, "UTF-8", in_quotes(rest));
  return PngText{from_latin1(keyword), std::string(rest)};
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string read_png_file(const std::filesystem::path& path) {
  std::string file = read_file(path, kMaxFileBytes);
  if (!file.starts_with("\x89PNG")) {
    if (const auto foreign = describe_foreign_file(as_bytes(file))) {
      fail(printable(path.string()), "a PNG picture", *foreign);
    }
  }
  return file;
}

}  // namespace

std::vector<std::byte> encode_png(const Image& image, std::span<const PngText> texts) {
  const auto width = static_cast<std::uint64_t>(std::max(image.width, 0));
  const auto height = static_cast<std::uint64_t>(std::max(image.height, 0));
  const std::uint64_t pixels = width * height;
  if (pixels == 0 || pixels > kMaxPixels || image.rgb.size() != pixels * 3) {
    fail("PNG", fmt::format("1 to {} RGB pixels", kMaxPixels),
         fmt::format("{} x {} and {} bytes", image.width, image.height, image.rgb.size()));
  }
  const std::vector<std::byte> plain = stb::encode_png(image);
  constexpr auto kTextsAt =
      static_cast<std::ptrdiff_t>(png::kSignatureBytes + png::kChunkOverhead + png::kHeaderBytes);
  std::vector<std::byte> png(plain.begin(), plain.begin() + kTextsAt);
  for (const PngText& text : texts) append_text(png, text);
  png.insert(png.end(), plain.begin() + kTextsAt, plain.end());
  return png;
}

Image decode_png(std::span<const std::byte> png, std::string_view what) {
  require(png.size() <= kMaxFileBytes, what, fmt::format("at most {} bytes", kMaxFileBytes),
          fmt::format("{}", png.size()));
  // stb checks neither checksums nor, before it unpacks, the size of the picture.
  const auto header = png::parse_chunks(png, what).front().data;
  const std::uint64_t width = png::load_u32(header);
  const std::uint64_t height = png::load_u32(header.subspan(4));
  if (width == 0 || height == 0 || width > kMaxPixels / height) {
    fail(what, fmt::format("1 to {} pixels", kMaxPixels), fmt::format("{} x {}", width, height));
  }
  return stb::decode_png(png, what);
}

std::vector<PngText> parse_png_texts(std::span<const std::byte> png, std::string_view what) {
  std::vector<PngText> texts;
  for (const png::Chunk& chunk : png::parse_chunks(png, what)) {
    if (auto text = parse_text(chunk, what)) texts.push_back(std::move(*text));
  }
  return texts;
}

void write_png(const std::filesystem::path& path, const Image& image,
               std::span<const PngText> texts) {
  write_file_atomically(path, encode_png(image, texts));
}

Image read_png(const std::filesystem::path& path) {
  return decode_png(as_bytes(read_png_file(path)), printable(path.string()));
}

std::vector<PngText> read_png_texts(const std::filesystem::path& path) {
  return parse_png_texts(as_bytes(read_png_file(path)), printable(path.string()));
}

}  // namespace rtlynx
