// SPDX-License-Identifier: Apache-2.0
#include "io/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/io_test_util.h"
#include "io/png_chunks.h"

namespace rtlynx {
namespace {

using namespace std::string_literals;
using test::bytes_of;
using test::error_of;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Image gradient(int width, int height) {
  Image image(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.pixel(x, y)[0] = static_cast<std::uint8_t>(x * 7);
      image.pixel(x, y)[1] = static_cast<std::uint8_t>(y * 11);
      image.pixel(x, y)[2] = static_cast<std::uint8_t>(x ^ y);
    }
  }
  return image;
}

std::vector<std::string> chunk_types(std::span<const std::byte> encoded) {
  std::vector<std::string> types;
  for (const png::Chunk& chunk : png::parse_chunks(encoded, "f.png"))
    types.emplace_back(chunk.type);
  return types;
}

/// A PNG file of the given chunks.
std::vector<std::byte> make_png(std::vector<std::pair<std::string, std::string>> chunks) {
  const auto whole = encode_png(gradient(1, 1));
  std::vector<std::byte> made(whole.begin(), whole.begin() + png::kSignatureBytes);
  for (const auto& [type, data] : chunks) png::append_chunk(made, type, bytes_of(data));
  return made;
}

const std::string kHeader = "\0\0\0\1\0\0\0\1\x08\2\0\0\0"s;  // 1 x 1, 8-bit RGB

TEST(Png, KeepsPixels) {
  for (const auto& [width, height] : {std::pair(1, 1), std::pair(37, 5), std::pair(256, 256)}) {
    const Image image = gradient(width, height);
    const Image read = decode_png(encode_png(image), "f.png");
    EXPECT_EQ(read.width, width);
    EXPECT_EQ(read.height, height);
    EXPECT_EQ(read.rgb, image.rgb);
  }
}

TEST(Png, KeepsTexts) {
  const std::vector<PngText> texts = {{"prompt", "a red circle"},
                                      {"Autor\xc3\xa9", "caf\xc3\xa9\nsecond line"},
                                      {"prompt", "\xe7\x8c\xab \xf0\x9f\x90\x88"},
                                      {"empty", ""}};
  const auto encoded = encode_png(gradient(4, 4), texts);
  EXPECT_EQ(parse_png_texts(encoded, "f.png"), texts);
  EXPECT_THAT(chunk_types(encoded),
              ElementsAre("IHDR", "tEXt", "tEXt", "iTXt", "tEXt", "IDAT", "IEND"));
  EXPECT_EQ(decode_png(encoded, "f.png").rgb, gradient(4, 4).rgb);
  EXPECT_EQ(encode_png(gradient(4, 4), texts), encoded);
}

TEST(Png, StoresLatin1AsTheStandardSays) {
  const std::vector<PngText> texts = {{"k", "\xc3\xa9"}};
  const auto encoded = encode_png(gradient(1, 1), texts);
  EXPECT_EQ(test::text_of(png::parse_chunks(encoded, "f.png")[1].data), "k\0\xe9"s);
}

TEST(Png, ComputesTheStandardChecksum) {
  EXPECT_EQ(png::crc32(bytes_of("123456789")), 0xcbf43926u);
  EXPECT_EQ(png::crc32(bytes_of("IEND")), 0xae426082u);
}

TEST(Png, WritesAndReadsFiles) {
  const TempDir dir;
  const auto path = dir / "image.png";
  const std::vector<PngText> texts = {{"seed", "7"}};
  write_png(path, gradient(9, 3), texts);
  EXPECT_EQ(read_png(path).rgb, gradient(9, 3).rgb);
  EXPECT_EQ(read_png_texts(path), texts);
  EXPECT_THAT(dir.list(), ElementsAre("image.png"));
  EXPECT_THAT(error_of([&] { read_png(dir / "none.png"); }), HasSubstr("none.png: No such file"));
}

TEST(Png, RefusesBadKeywordsAndTexts) {
  const auto error_for = [](std::string keyword, std::string text) {
    const std::vector<PngText> texts = {{std::move(keyword), std::move(text)}};
    return error_of([&] { encode_png(gradient(1, 1), texts); });
  };
  for (const auto& keyword : {""s, " a"s, "a "s, "a  b"s, "a\nb"s, std::string(80, 'k'), "\xff"s,
                              "\xe7\x8c\xab"s, "\xc2\xa0"s, "a\0b"s}) {
    EXPECT_THAT(error_for(keyword, ""), StartsWith("PNG text: required a keyword of 1 to 79"));
  }
  for (const auto& text : {"a\0b"s, "\xff"s}) {
    EXPECT_THAT(error_for("k", text), StartsWith("PNG text \"k\": required UTF-8 without NUL"));
  }
  const std::vector<PngText> longest = {{std::string(79, 'k'), "x"}};
  EXPECT_EQ(parse_png_texts(encode_png(gradient(1, 1), longest), "f.png"), longest);
}

TEST(Png, RefusesImagesWithoutTheirPixels) {
  Image image = gradient(2, 2);
  image.rgb.pop_back();
  EXPECT_EQ(error_of([&] { encode_png(image); }),
            "PNG: required 1 to 67108864 RGB pixels, got 2 x 2 and 11 bytes");
  error_of([] { encode_png(Image()); });
  image.width = -2;
  error_of([&] { encode_png(image); });
}

TEST(PngFile, RefusesDamage) {
  const auto encoded = encode_png(gradient(2, 2));
  const auto error_for = [](std::span<const std::byte> bytes) {
    return error_of([&] { decode_png(bytes, "f.png"); });
  };
  EXPECT_EQ(error_for({}), "f.png: required a PNG file, got another signature");
  EXPECT_EQ(error_for(bytes_of("GIF89a..")), "f.png: required a PNG file, got another signature");
  EXPECT_EQ(error_for(std::span(encoded).first(8)),
            "f.png, chunk at byte 8: required at least 12 bytes, got 0 up to the end of the file");
  EXPECT_THAT(error_for(std::span(encoded).first(encoded.size() - 13)),
              HasSubstr("bytes of data, got"));
  auto flipped = encoded;
  flipped[20] ^= std::byte{1};
  EXPECT_THAT(error_for(flipped), StartsWith("f.png, chunk at byte 8 (IHDR): required checksum"));
}

TEST(PngFile, RefusesChunksOutOfOrder) {
  const auto error_for = [](std::vector<std::pair<std::string, std::string>> chunks) {
    return error_of([&] { decode_png(make_png(std::move(chunks)), "f.png"); });
  };
  EXPECT_EQ(error_for({{"IEND", ""}}),
            "f.png: required IHDR as the first chunk, once, got IEND as chunk 1");
  EXPECT_EQ(error_for({{"IHDR", kHeader}, {"IHDR", kHeader}}),
            "f.png: required IHDR as the first chunk, once, got IHDR as chunk 2");
  EXPECT_EQ(error_for({{"IHDR", "short"}}), "f.png: required 13 bytes in IHDR, got 5");
  EXPECT_EQ(error_for({{"IHDR", kHeader}, {"a\x1b[m", ""}}),
            "f.png, chunk at byte 33: required a type of four letters, got \"a\\x1b[m\"");
  EXPECT_THAT(error_for({{"IHDR", kHeader}, {"IEND", ""}}),
              StartsWith("f.png: required a PNG file that decodes, got"));
  EXPECT_EQ(error_for({{"IHDR", "\0\1\0\0\0\1\0\0\x08\2\0\0\0"s}, {"IEND", ""}}),
            "f.png: required 1 to 67108864 pixels, got 65536 x 65536");
}

TEST(PngFile, RefusesMalformedTexts) {
  const auto texts_of = [](std::string type, std::string data) {
    return parse_png_texts(make_png({{"IHDR", kHeader}, {type, data}, {"IEND", ""}}), "f.png");
  };
  const auto error_for = [&](std::string type, std::string data) {
    return error_of([&] { texts_of(type, data); });
  };
  EXPECT_EQ(error_for("tEXt", "no end"),
            "f.png, tEXt chunk: required a NUL after each field, got none");
  EXPECT_EQ(error_for("tEXt", "\0text"s),
            "f.png, tEXt chunk: required a keyword of 1 to 79 characters, got 0");
  EXPECT_EQ(error_for("iTXt", "k\0\0"s),
            "f.png, iTXt chunk: required a compression flag and method, got the end of the chunk");
  EXPECT_EQ(error_for("iTXt", "k\0\0\0en"s),
            "f.png, iTXt chunk: required a NUL after each field, got none");
  EXPECT_EQ(error_for("iTXt", "k\0\0\0\0\0\xff"s),
            "f.png, iTXt chunk: required UTF-8, got \"\\xff\"");
  EXPECT_THAT(texts_of("iTXt", "k\0\1\0\0\0compressed"s), IsEmpty());
  EXPECT_THAT(texts_of("zTXt", "k\0\0compressed"s), IsEmpty());
  EXPECT_THAT(texts_of("iTXt", "k\0\0\0en\0key\0text"s), ElementsAre(PngText{"k", "text"}));
}

}  // namespace
}  // namespace rtlynx
