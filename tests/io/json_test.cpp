// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/io_test_util.h"

namespace rtlynx {
namespace {

using namespace std::string_literals;
using nlohmann::json;
using test::error_of;
using test::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string parse_error(std::string_view text, int max_depth = 64) {
  return error_of([&] { parse_json(text, "c.json", max_depth); });
}

TEST(ParseJson, AgreesWithNlohmannOnValidText) {
  for (const char* text :
       {"null", "true", " [1, -2, 3.5e2, \"\\u20ac\"] ", "{}", "[]", "18446744073709551615",
        R"({"a": {"b": [{"c": []}, {"c": {}}]}, "d": "x", "e": [[], [[1]]], "": 0})"}) {
    EXPECT_EQ(parse_json(text, "c.json"), json::parse(text)) << text;
  }
}

TEST(ParseJson, NamesFileLineAndColumn) {
  EXPECT_THAT(parse_error("{\n  \"a\": 1,\n  \"b\" 2\n}"),
              AllOf(StartsWith("c.json, line 3, column 7: required valid JSON, got syntax error"),
                    HasSubstr("expected ':'")));
  EXPECT_THAT(parse_error(""), StartsWith("c.json, line 1, column 0: required valid JSON"));
}

TEST(ParseJson, RefusesARepeatedKey) {
  EXPECT_EQ(parse_error("{\"a\": 1,\n \"a\": 2}"),
            "c.json, line 2, column 4: required each key once in an object, got \"a\" again");
  EXPECT_THAT(parse_error(R"({"x": [{"k": {}, "k": {}}]})"), HasSubstr("\"k\" again"));
  EXPECT_THAT(parse_error(R"({"a": 1, "\u0061": 2})"), HasSubstr("\"a\" again"));
  parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "c.json");
}

TEST(ParseJson, LimitsDepth) {
  const auto nested = [](int depth) {
    return std::string(std::size_t(depth), '[') + std::string(std::size_t(depth), ']');
  };
  parse_json(nested(64), "c.json");
  EXPECT_EQ(parse_error(nested(65)),
            "c.json, line 1, column 65: required at most 64 nested levels, got one more");
  EXPECT_THAT(parse_error(R"({"a":{"b":{}}})", 2), HasSubstr("at most 2 nested levels"));
  parse_error(std::string(1'000'000, '['));
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  for (const auto& text : {"{} x"s, "{\"a\": 01}"s, "[1,]"s, "{\"a\": NaN}"s, "// c\n{}"s, "'a'"s,
                           "\"\xff\""s, "\"\\ud800\""s, "1e999"s, "\"\x01\""s, "{\"a\"}"s}) {
    EXPECT_THAT(parse_error(text), HasSubstr("required valid JSON")) << text;
  }
  EXPECT_EQ(parse_error("{}\n\0garbage"s),
            "c.json, line 2, column 1: required valid JSON, got a NUL byte");
}

TEST(ReadJsonFile, NamesThePath) {
  const TempDir dir;
  const auto path = dir / "config.json";
  test::put_file(path, R"({"num_layers": 28})");
  EXPECT_EQ(read_json_file(path), json({{"num_layers", 28}}));
  test::put_file(path, "{");
  EXPECT_THAT(error_of([&] { read_json_file(path); }), StartsWith(path.string() + ", line 1"));
}

const json kConfig = json::parse(R"({
  "layers": 28, "negative": -3, "huge": 18446744073709551615, "eps": 1e-6, "one": 1,
  "flag": true, "name": "dit", "axes": [16, 56, 56], "mixed": [1, "2"], "nothing": null})");

TEST(JsonInt, ReadsWithinARange) {
  EXPECT_EQ(json_int(kConfig, "layers", "c.json"), 28);
  EXPECT_EQ(json_int(kConfig, "negative", "c.json"), -3);
  EXPECT_EQ(json_int(kConfig, "absent", "c.json", {.fallback = 7}), 7);
  EXPECT_EQ(json_int(kConfig, "nothing", "c.json", {.fallback = 7}), 7);
  EXPECT_EQ(error_of([] { json_int(kConfig, "layers", "c.json", {.min = 1, .max = 27}); }),
            "c.json, key \"layers\": required an integer from 1 to 27, got 28");
  EXPECT_EQ(error_of([] { json_int(kConfig, "negative", "c.json", {.min = 1, .fallback = 2}); }),
            "c.json, key \"negative\": required an integer of at least 1, got -3");
  EXPECT_EQ(error_of([] { json_int(kConfig, "huge", "c.json"); }),
            "c.json, key \"huge\": required an integer, got 18446744073709551615");
}

TEST(JsonInt, NamesFileAndKeyOfAnotherType) {
  EXPECT_EQ(error_of([] { json_int(kConfig, "name", "c.json"); }),
            "c.json, key \"name\": required an integer, got \"dit\"");
  EXPECT_EQ(error_of([] { json_int(kConfig, "eps", "c.json"); }),
            "c.json, key \"eps\": required an integer, got 1e-06");
  EXPECT_EQ(error_of([] { json_int(kConfig, "flag", "c.json"); }),
            "c.json, key \"flag\": required an integer, got true");
  EXPECT_EQ(error_of([] { json_int(kConfig, "absent", "c.json"); }),
            "c.json, key \"absent\": required an integer, got no such key");
  EXPECT_EQ(error_of([] { json_int(kConfig, "nothing", "c.json"); }),
            "c.json, key \"nothing\": required an integer, got null");
  EXPECT_EQ(error_of([] { json_int(json::array(), "layers", "c.json"); }),
            "c.json: required a JSON object, got []");
}

TEST(JsonFile, SaysWhatItIsInPlaceOfJson) {
  const test::TempDir dir;
  test::put_file(dir / "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  EXPECT_THAT(error_of([&] { read_json_file(dir / "config.json"); }),
              AllOf(StartsWith((dir / "config.json").string()), HasSubstr("Git LFS pointer")));
}

TEST(JsonComplaint, LeavesOutTheClassOfTheException) {
  try {
    json(nullptr).get<double>();
    ADD_FAILURE() << "no exception";
  } catch (const json::exception& error) {
    EXPECT_EQ(json_complaint(error), "type must be number, but is null");
  }
}

TEST(JsonHas, CountsNullAsAbsent) {
  EXPECT_TRUE(json_has(kConfig, "layers"));
  EXPECT_FALSE(json_has(kConfig, "nothing"));
  EXPECT_FALSE(json_has(kConfig, "absent"));
  EXPECT_FALSE(json_has(json::array(), "layers"));
}

TEST(JsonAccessors, ReadTheOtherTypes) {
  EXPECT_EQ(json_number(kConfig, "eps", "c.json"), 1e-6);
  EXPECT_EQ(json_number(kConfig, "one", "c.json"), 1.0);
  EXPECT_EQ(json_number(kConfig, "absent", "c.json", {.fallback = 0.5}), 0.5);
  EXPECT_TRUE(json_bool(kConfig, "flag", "c.json"));
  EXPECT_FALSE(json_bool(kConfig, "nothing", "c.json", false));
  EXPECT_EQ(json_string(kConfig, "name", "c.json"), "dit");
  EXPECT_EQ(json_string(kConfig, "absent", "c.json", "gelu"), "gelu");
  EXPECT_THAT(json_ints(kConfig, "axes", "c.json"), ::testing::ElementsAre(16, 56, 56));
}

TEST(JsonAccessors, NameFileAndKey) {
  EXPECT_EQ(error_of([] { json_number(kConfig, "eps", "c.json", {.min = 1e-3, .max = 1.0}); }),
            "c.json, key \"eps\": required a number from 0.001 to 1, got 1e-06");
  EXPECT_EQ(error_of([] { json_number(kConfig, "flag", "c.json"); }),
            "c.json, key \"flag\": required a number, got true");
  EXPECT_EQ(error_of([] { json_bool(kConfig, "one", "c.json"); }),
            "c.json, key \"one\": required true or false, got 1");
  EXPECT_EQ(error_of([] { json_string(kConfig, "one", "c.json"); }),
            "c.json, key \"one\": required a string, got 1");
  EXPECT_EQ(error_of([] { json_ints(kConfig, "layers", "c.json"); }),
            "c.json, key \"layers\": required a list of integers, got 28");
  EXPECT_EQ(error_of([] { json_ints(kConfig, "mixed", "c.json", {.min = 0}); }),
            "c.json, key \"mixed\": required an integer of at least 0, got \"2\"");
}

}  // namespace
}  // namespace rtlynx
