// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

#include "io/io_test_util.h"

namespace rtlynx {
namespace {

using namespace std::string_literals;
using test::bytes_of;
using test::error_of;
using test::make_safetensors;
using test::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string error_in(std::string_view file) {
  return error_of([&] { parse_safetensors(bytes_of(file), "f.safetensors"); });
}

/// The error for a file of one tensor "w".
std::string error_in_tensor(std::string_view members, std::string_view data = "") {
  return error_in(make_safetensors("{\"w\":{" + std::string(members) + "}}", data));
}

constexpr const char* kInTensor = "f.safetensors, tensor \"w\": ";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string file = make_safetensors(
      R"({"b":{"dtype":"F32","shape":[1,2],"data_offsets":[2,10]},)"
      R"("a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},)"
      R"("__metadata__":{"format":"pt","note":""},)"
      R"("c":{"dtype":"I64","shape":[3,0],"data_offsets":[10,10],"extra":{"x":[1]}}}   )",
      "\x80\x3f\0\0\x80\x3f\0\0\0\x40"s);
  const SafetensorsContents contents = parse_safetensors(bytes_of(file), "f.safetensors");
  EXPECT_THAT(contents.names, ElementsAre("a", "b", "c"));
  EXPECT_EQ(contents.metadata, (SafetensorsMetadata{{"format", "pt"}, {"note", ""}}));
  const TensorEntry& b = contents.tensors.at("b");
  EXPECT_EQ(b.dtype, TensorDtype::kF32);
  EXPECT_THAT(b.shape, ElementsAre(1, 2));
  float values[2];  // copied: the data begins at an odd multiple of two
  ASSERT_EQ(b.bytes.size(), sizeof values);
  std::memcpy(values, b.bytes.data(), sizeof values);
  EXPECT_THAT(values, ElementsAre(1.0f, 2.0f));
  EXPECT_THAT(contents.tensors.at("a").shape, IsEmpty());
  EXPECT_THAT(contents.tensors.at("c").shape, ElementsAre(3, 0));
  EXPECT_TRUE(contents.tensors.at("c").bytes.empty());
}

TEST(Safetensors, KnowsEveryDtype) {
  const std::pair<const char*, std::size_t> known[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  for (const auto& [name, bytes] : known) {
    const std::string file =
        make_safetensors("{\"w\":{\"dtype\":\""s + name + "\",\"shape\":[1],\"data_offsets\":[0," +
                             std::to_string(bytes) + "]}}",
                         std::string(bytes, '\0'));
    const auto contents = parse_safetensors(bytes_of(file), "f.safetensors");
    EXPECT_EQ(dtype_name(contents.tensors.at("w").dtype), name);
    EXPECT_EQ(dtype_bytes(contents.tensors.at("w").dtype), bytes);
  }
}

TEST(Safetensors, ReadsAFileWithoutTensors) {
  EXPECT_THAT(parse_safetensors(bytes_of(make_safetensors("{}")), "f").names, IsEmpty());
}

TEST(SafetensorsHeader, RefusesTruncation) {
  EXPECT_EQ(error_in(""),
            "f.safetensors: required a safetensors file, got an empty file, as an interrupted "
            "download leaves it");
  EXPECT_EQ(error_in("\x02\0\0\0\0\0\0"s),
            "f.safetensors: required at least 8 bytes for the header size, got a file of 7");
  EXPECT_EQ(error_in("\x03\0\0\0\0\0\0\0{}"s),
            "f.safetensors: required 3 bytes of header, got 2 bytes up to the end of the file");
}

TEST(SafetensorsHeader, RefusesHugeSizes) {
  EXPECT_EQ(error_in("\x01\xe1\xf5\x05\0\0\0\0{}"s),
            "f.safetensors: required a header of at most 100000000 bytes, got a header size of "
            "100000001");
  EXPECT_EQ(error_in(std::string(8, '\xff') + "{}"),
            "f.safetensors: required a header of at most 100000000 bytes, got a header size of "
            "18446744073709551615");
}

TEST(SafetensorsHeader, RefusesWhatIsNotAnObject) {
  EXPECT_EQ(error_in(make_safetensors("")),
            "f.safetensors: required a header that begins with {, got \"\"");
  EXPECT_EQ(error_in(make_safetensors("[]")),
            "f.safetensors: required a header that begins with {, got \"[]\"");
  EXPECT_THAT(error_in(make_safetensors("{\"a\":")),
              StartsWith("f.safetensors, header, line 1, column 5: required valid JSON"));
  EXPECT_THAT(error_in(make_safetensors("{\"\xff\":{}}")), HasSubstr("required valid JSON"));
  EXPECT_THAT(error_in(make_safetensors("{}\0\0"s)), HasSubstr("got a NUL byte"));
  EXPECT_THAT(
      error_in(make_safetensors("{\"w\":" + std::string(100, '[') + std::string(100, ']') + "}")),
      AllOf(HasSubstr("f.safetensors, header"), HasSubstr("nested levels")));
}

TEST(SafetensorsHeader, RefusesRepeatedNames) {
  const std::string tensor = R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_THAT(error_in(make_safetensors("{" + tensor + "," + tensor + "}", "x")),
              AllOf(StartsWith("f.safetensors, header, line 1, column"),
                    HasSubstr("required each key once in an object, got \"w\" again")));
  EXPECT_THAT(error_in_tensor(R"("dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1])", "x"),
              HasSubstr("\"dtype\" again"));
}

TEST(SafetensorsHeader, RefusesMetadataOtherThanStrings) {
  EXPECT_EQ(error_in(make_safetensors(R"({"__metadata__":[]})")),
            "f.safetensors, __metadata__: required an object of strings, got []");
  EXPECT_EQ(error_in(make_safetensors(R"({"__metadata__":{"k":1}})")),
            "f.safetensors, __metadata__: required a string at \"k\", got 1");
}

TEST(SafetensorsTensor, RefusesMissingMembers) {
  EXPECT_EQ(error_in(make_safetensors(R"({"w":3})")), kInTensor + "required an object, got 3"s);
  EXPECT_EQ(error_in_tensor(R"("shape":[1],"data_offsets":[0,1])", "x"),
            kInTensor + "required \"dtype\", got none"s);
  EXPECT_EQ(error_in_tensor(R"("dtype":"U8","data_offsets":[0,1])", "x"),
            kInTensor + "required \"shape\", got none"s);
  EXPECT_EQ(error_in_tensor(R"("dtype":"U8","shape":[1])", "x"),
            kInTensor + "required \"data_offsets\", got none"s);
}

TEST(SafetensorsTensor, RefusesUnknownDtypes) {
  for (const char* dtype : {"\"F7\"", "\"f32\"", "32", "null", "{}"}) {
    EXPECT_EQ(error_in_tensor("\"dtype\":"s + dtype + R"(,"shape":[1],"data_offsets":[0,1])", "x"),
              kInTensor +
                  "required a dtype of BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, "
                  "I32, U32, F32, F64, I64, U64, got "s +
                  dtype);
  }
}

TEST(SafetensorsTensor, RefusesBadShapes) {
  for (const char* shape :
       {"[-1]", "[1.5]", "[1.0]", "[9223372036854775808]", "[\"1\"]", "[-0]", "[[1]]", "[null]"}) {
    const std::string members = "\"dtype\":\"U8\",\"shape\":"s + shape;
    EXPECT_THAT(
        error_in_tensor(members + R"(,"data_offsets":[0,1])", "x"),
        StartsWith(kInTensor + "required integers from 0 to 9223372036854775807 as shape, got "s))
        << shape;
  }
  EXPECT_EQ(error_in_tensor(R"("dtype":"U8","shape":1,"data_offsets":[0,1])", "x"),
            kInTensor + "required a list as shape, got 1"s);
}

TEST(SafetensorsTensor, RefusesShapesThatOverflow) {
  // 2^32 x 2^32 x 2 is 0 in 64 bits.
  EXPECT_EQ(
      error_in_tensor(R"("dtype":"U8","shape":[4294967296,4294967296,2],"data_offsets":[0,0])"),
      kInTensor + "required fewer than 2^63 bytes for U8 [4294967296,4294967296,2], got 0"s);
  EXPECT_THAT(
      error_in_tensor(R"("dtype":"U8","shape":[9223372036854775807,3,0],"data_offsets":[0,0])"),
      StartsWith(kInTensor + "required fewer than 2^63 bytes"s));
}

TEST(SafetensorsTensor, RefusesBadOffsets) {
  const auto error_for = [](std::string_view offsets) {
    return error_in_tensor(R"("dtype":"U8","shape":[2],"data_offsets":)" + std::string(offsets),
                           "xy");
  };
  EXPECT_EQ(error_for("[2,0]"), kInTensor + "required data_offsets with begin <= end, got [2,0]"s);
  EXPECT_EQ(error_for("[1,3]"),
            kInTensor + "required data_offsets within the 2 bytes of data, got [1,3]"s);
  EXPECT_EQ(error_for("[0,18446744073709551615]"),
            kInTensor +
                "required data_offsets within the 2 bytes of data, got [0,18446744073709551615]"s);
  for (const char* offsets :
       {"[0]", "[0,1,2]", "[-1,1]", "[0,2.0]", "{}", "[0,\"2\"]", "[0,18446744073709551616]"}) {
    EXPECT_THAT(error_for(offsets),
                StartsWith(kInTensor + "required two unsigned integers as data_offsets, got "s));
  }
}

TEST(SafetensorsTensor, RefusesASizeThatIsNotThatOfTheShape) {
  EXPECT_EQ(error_in_tensor(R"("dtype":"F16","shape":[2,3],"data_offsets":[0,8])", "12345678"),
            kInTensor + "required 12 bytes for F16 [2,3], got 8"s);
  EXPECT_EQ(error_in_tensor(R"("dtype":"F32","shape":[0],"data_offsets":[0,4])", "1234"),
            kInTensor + "required 0 bytes for F32 [0], got 4"s);
}

TEST(SafetensorsCoverage, RefusesOverlapsHolesAndLeftovers) {
  const auto error_for = [](std::string_view first, std::string_view second) {
    return error_in(make_safetensors(
        R"({"v":{"dtype":"U8","shape":[2],"data_offsets":)" + std::string(first) +
            R"(},"w":{"dtype":"U8","shape":[2],"data_offsets":)" + std::string(second) + "}}",
        "12345"));
  };
  EXPECT_EQ(error_for("[0,2]", "[1,3]"),
            kInTensor +
                "required data from offset 2, where the data before it ends, "
                "got an overlap from offset 1"s);
  EXPECT_EQ(error_for("[0,2]", "[0,2]"),
            kInTensor +
                "required data from offset 2, where the data before it ends, "
                "got an overlap from offset 0"s);
  EXPECT_EQ(error_for("[0,2]", "[3,5]"),
            kInTensor +
                "required data from offset 2, where the data before it ends, "
                "got a hole from offset 3"s);
  EXPECT_EQ(error_for("[0,2]", "[2,4]"),
            kInTensor +
                "required the last tensor to end the file at offset 5, "
                "got its end at offset 4"s);
  EXPECT_EQ(error_in(make_safetensors("{}", "x")),
            "f.safetensors: required the last tensor to end the file at offset 1, "
            "got its end at offset 0");
}

TEST(SafetensorsErrors, EscapeTheNamesInTheFile) {
  EXPECT_THAT(error_in(make_safetensors(R"({"\u001b[31mred":3})")),
              HasSubstr(R"(tensor "\x1b[31mred")"));
}

TEST(SafetensorsFile, MapsAndMoves) {
  const TempDir dir;
  const auto path = dir / "one.safetensors";
  test::put_file(
      path, make_safetensors(R"({"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "abc"));
  SafetensorsFile first = SafetensorsFile::open(path);
  const SafetensorsFile file = std::move(first);
  EXPECT_EQ(test::text_of(file.entry("w").bytes), "abc");
  EXPECT_TRUE(file.contains("w"));
  EXPECT_FALSE(file.contains("v"));
  EXPECT_EQ(error_of([&] { file.entry("v"); }),
            path.string() + ": required tensor \"v\", got 1 tensors, none of that name");
}

TEST(SafetensorsFile, NamesThePathOfWhatIsNoFile) {
  const TempDir dir;
  const auto open_error = [](const std::filesystem::path& path) {
    return error_of([&] { SafetensorsFile::open(path); });
  };
  EXPECT_EQ(open_error(dir / "none"),
            "cannot open " + (dir / "none").string() + ": No such file or directory");
  EXPECT_EQ(open_error(dir.path()),
            dir.path().string() + ": required a regular file, got a directory");
  test::put_file(dir / "empty", "");
  EXPECT_EQ(open_error(dir / "empty"),
            (dir / "empty").string() +
                ": required a safetensors file, got an empty file, as an interrupted download "
                "leaves it");
}

}  // namespace
}  // namespace rtlynx
