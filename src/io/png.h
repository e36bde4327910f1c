// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/image.h"

namespace rtlynx {

/// A comment in a PNG file, in UTF-8. The keyword is 1 to 79 printable Latin-1 characters without
/// leading, trailing or double spaces; the text has no NUL.
struct PngText {
  std::string keyword;
  std::string text;

  friend bool operator==(const PngText&, const PngText&) = default;
};

/// The texts stand right after the header, as tEXt where Latin-1 can hold them and otherwise as
/// iTXt. Equal arguments give equal bytes.
std::vector<std::byte> encode_png(const Image& image, std::span<const PngText> texts = {});

/// Throws Error unless `png` is a whole PNG file with right checksums. Other kinds of pixel become
/// 8-bit RGB; transparency is dropped. Errors begin with `what`.
Image decode_png(std::span<const std::byte> png, std::string_view what);

/// The tEXt and uncompressed iTXt chunks in file order; compressed ones are passed over.
std::vector<PngText> parse_png_texts(std::span<const std::byte> png, std::string_view what);

/// Written atomically.
void write_png(const std::filesystem::path& path, const Image& image,
               std::span<const PngText> texts = {});
Image read_png(const std::filesystem::path& path);
std::vector<PngText> read_png_texts(const std::filesystem::path& path);

}  // namespace rtlynx
