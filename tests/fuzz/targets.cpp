// SPDX-License-Identifier: Apache-2.0
#include "targets.h"

#include <cstdint>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/png.h"
#include "io/png_chunks.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "promise.h"

namespace rtlynx::fuzz {
namespace {

/// `png` with the checksum of every whole chunk put right, which mutation alone would hardly find.
std::vector<std::byte> with_checksums(std::span<const std::byte> png) {
  std::vector<std::byte> fixed(png.begin(), png.end());
  std::size_t at = png::kSignatureBytes;
  while (at + png::kChunkOverhead <= fixed.size()) {
    const std::uint32_t size = png::load_u32(std::span(fixed).subspan(at));
    if (size > fixed.size() - at - png::kChunkOverhead) break;
    const std::uint32_t checksum = png::crc32(std::span(fixed).subspan(at + 4, 4 + size));
    for (std::size_t i = 0; i < 4; ++i) {
      fixed[at + 8 + size + i] = std::byte(checksum >> (24 - 8 * i) & 0xff);
    }
    at += png::kChunkOverhead + size;
  }
  return fixed;
}

void parse_texts(std::span<const std::byte> png) {
  expect_error_or_success([&] {
    for (const PngText& text : parse_png_texts(png, "input")) {
      promise(is_utf8(text.keyword) && is_utf8(text.text), "texts are UTF-8");
    }
  });
}

}  // namespace

void safetensors(std::span<const std::byte> input) {
  expect_error_or_success([&] {
    const SafetensorsContents contents = parse_safetensors(input, "input");
    promise(contents.names.size() == contents.tensors.size(), "each tensor has one name");
    const std::byte* end = nullptr;
    for (const std::string& name : contents.names) {
      const TensorEntry& entry = contents.tensors.at(name);
      promise(tensor_bytes(entry.dtype, entry.shape) == entry.bytes.size(), "sizes match shapes");
      promise(end == nullptr || entry.bytes.data() == end, "tensors are back to back");
      end = entry.bytes.data() + entry.bytes.size();
    }
    promise(end == nullptr || end == input.data() + input.size(), "tensors end the file");
  });
}

void json(std::span<const std::byte> input) {
  expect_error_or_success([&] {
    const nlohmann::json value = parse_json(as_text(input), "input");
    promise(parse_json(value.dump(), "dump") == value, "a value survives being written");
  });
}

void png_texts(std::span<const std::byte> input) {
  parse_texts(input);
  parse_texts(with_checksums(input));
}

}  // namespace rtlynx::fuzz
