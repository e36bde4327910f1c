// SPDX-License-Identifier: Apache-2.0
//
// Valid files, damaged at random: a parser either takes them or throws rtlynx::Error. Any other
// exception fails the test, and the sanitizers see what is read out of bounds.
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>

#include "io/io_test_util.h"
#include "io/json.h"
#include "io/png.h"
#include "io/safetensors.h"

namespace rtlynx {
namespace {

using test::bytes_of;

constexpr int kIterations = 4000;

std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return random() % n; };
  const std::size_t changes = 1 + below(4);
  for (std::size_t i = 0; i < changes && !text.empty(); ++i) {
    const std::size_t at = below(text.size());
    switch (below(5)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text[at] = static_cast<char>(below(256));
        break;
      case 3:
        text.erase(at, 1 + below(8));
        break;
      case 4:
        text.insert(at, text.substr(below(text.size()), 1 + below(16)));
        break;
    }
  }
  return text;
}

struct Outcomes {
  int accepted = 0;
  int refused = 0;
};

Outcomes run(const std::string& valid, const std::function<void(const std::string&)>& parse) {
  std::mt19937 random(20240607);
  Outcomes outcomes;
  parse(valid);
  for (int i = 0; i < kIterations; ++i) {
    const std::string text = damaged(valid, random);
    try {
      parse(text);
      ++outcomes.accepted;
    } catch (const Error&) {
      ++outcomes.refused;
    }
  }
  return outcomes;
}

TEST(Damaged, SafetensorsParsesOrThrows) {
  const std::string valid = test::make_safetensors(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"U8","shape":[0],"data_offsets":[16,16]},)"
      R"("c":{"dtype":"BF16","shape":[1,3],"data_offsets":[16,22]}} )",
      "0123456789abcdefghijkl");
  const Outcomes outcomes = run(valid, [](const std::string& text) {
    const auto file = bytes_of(text);
    std::size_t covered = 0;
    for (const auto& [name, entry] : parse_safetensors(file, "f").tensors) {
      ASSERT_GE(entry.bytes.data(), file.data());
      ASSERT_LE(entry.bytes.data() + entry.bytes.size(), file.data() + file.size());
      ASSERT_EQ(tensor_bytes(entry.dtype, entry.shape), entry.bytes.size());
      covered += entry.bytes.size();
    }
    ASSERT_LE(covered, file.size());
  });
  EXPECT_GT(outcomes.accepted, 0);  // damage to the data itself is not seen
  EXPECT_GT(outcomes.refused, kIterations / 2);
}

TEST(Damaged, JsonParsesOrThrows) {
  const std::string valid =
      R"({"_class_name": "FluxTransformer2DModel", "num_layers": 19, "axes": [16, 56, 56],)"
      R"( "eps": 1e-06, "flag": true, "none": null, "nested": {"text": "\u20ac caf\u00e9"}})";
  const Outcomes outcomes = run(valid, [](const std::string& text) {
    const nlohmann::json value = parse_json(text, "c.json");
    ASSERT_EQ(parse_json(value.dump(), "c.json"), value);
  });
  EXPECT_GT(outcomes.accepted, 0);
  EXPECT_GT(outcomes.refused, kIterations / 2);
}

TEST(Damaged, PngParsesOrThrows) {
  const std::vector<PngText> texts = {{"prompt", "a red circle"}, {"note", "\xe2\x82\xac"}};
  const std::string valid = test::text_of(encode_png(Image(8, 8), texts));
  const Outcomes outcomes = run(valid, [](const std::string& text) {
    parse_png_texts(bytes_of(text), "f.png");
    decode_png(bytes_of(text), "f.png");
  });
  EXPECT_GT(outcomes.refused, kIterations / 2);
}

}  // namespace
}  // namespace rtlynx
