// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/io_test_util.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace rtlynx {
namespace {

using namespace std::string_literals;
using test::bytes_of;
using test::error_of;
using test::get_file;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

NamedTensor bytes_tensor(std::string name, std::string_view data) {
  return {std::move(name), TensorDtype::kU8, {std::ssize(data)}, bytes_of(data)};
}

TEST(WriteSafetensors, GivesTheBytesOfTheReferenceImplementation) {
  // Written by the Python package safetensors 0.8.0.
  const std::string expected =
      "\x80\x01\0\0\0\0\0\0"
      R"({"__metadata__":{"format":"pt"},)"
      R"("idx":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("b.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},)"
      R"("empty":{"dtype":"F32","shape":[0,4],"data_offsets":[24,24]},)"
      R"("a.bias":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},)"
      R"("s":{"dtype":"U8","shape":[],"data_offsets":[30,31]},)"
      "\"z\\\"\xc3\xa9\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[31,34]}}"
      "\x07\0\0\0\0\0\0\0"
      "\0\0\x80?\0\0\0@\0\0@@\0\0\x80@"
      "\0<\0@\0B"
      "\x05\x01\0\x01"s;
  const std::string data = expected.substr(expected.size() - 34);
  const auto part = [&](std::size_t from, std::size_t count) {
    return bytes_of(data).subspan(from, count);
  };
  const std::vector<NamedTensor> tensors = {
      {"z\"\xc3\xa9", TensorDtype::kBool, {3}, part(31, 3)},
      {"b.weight", TensorDtype::kF32, {2, 2}, part(8, 16)},
      {"s", TensorDtype::kU8, {}, part(30, 1)},
      {"a.bias", TensorDtype::kF16, {3}, part(24, 6)},
      {"idx", TensorDtype::kI64, {1}, part(0, 8)},
      {"empty", TensorDtype::kF32, {0, 4}, {}},
  };
  const TempDir dir;
  const auto path = dir / "out.safetensors";
  write_safetensors(path, tensors, {{"format", "pt"}});
  EXPECT_EQ(get_file(path), expected);

  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  ASSERT_EQ(file.names().size(), tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const TensorEntry& entry = file.entry(tensor.name);
    EXPECT_EQ(entry.dtype, tensor.dtype);
    EXPECT_EQ(entry.shape, tensor.shape);
    EXPECT_EQ(test::text_of(entry.bytes), test::text_of(tensor.bytes));
  }
}

TEST(WriteSafetensors, PadsTheHeaderWithSpaces) {
  const TempDir dir;
  write_safetensors(dir / "empty", {});
  EXPECT_EQ(get_file(dir / "empty"), "\x08\0\0\0\0\0\0\0{}      "s);
  EXPECT_THAT(SafetensorsFile::open(dir / "empty").names(), IsEmpty());
}

TEST(WriteSafetensors, RefusesWhatItCouldNotReadBack) {
  const TempDir dir;
  const auto path = dir / "bad.safetensors";
  const auto error_for = [&](std::vector<NamedTensor> tensors, SafetensorsMetadata metadata = {}) {
    return error_of([&] { write_safetensors(path, tensors, metadata); });
  };
  const std::string in_w = path.string() + ", tensor \"w\": ";
  EXPECT_EQ(error_for({bytes_tensor("w", "1"), bytes_tensor("w", "2")}),
            in_w + "required each name once, got it twice");
  EXPECT_EQ(error_for({{"w", TensorDtype::kF32, {2}, bytes_of("1234")}}),
            in_w + "required 8 bytes for F32 [2], got 4");
  EXPECT_EQ(error_for({{"w", TensorDtype::kU8, {-1}, {}}}),
            in_w + "required fewer than 2^63 bytes for U8 [-1], got 0");
  EXPECT_EQ(error_for({bytes_tensor("__metadata__", "1")}),
            path.string() +
                ", tensor \"__metadata__\": required another name, got the key of the metadata");
  EXPECT_THAT(error_for({bytes_tensor("\xff", "1")}), HasSubstr("required a name in UTF-8"));
  EXPECT_THAT(error_for({}, {{"k", "\xff"}}), HasSubstr("__metadata__ \"k\": required UTF-8"));
  EXPECT_THAT(dir.list(), IsEmpty());
}

const std::vector<NamedTensor> kThree = {bytes_tensor("c", "ccccc"), bytes_tensor("a", "aaaa"),
                                         bytes_tensor("b", "bbb")};

TEST(WriteSharded, WritesOneFileWhenItFits) {
  const TempDir dir;
  EXPECT_THAT(write_safetensors_sharded(dir.path(), "model", kThree, 12),
              ElementsAre(dir / "model.safetensors"));
  EXPECT_THAT(dir.list(), ElementsAre("model.safetensors"));
  EXPECT_EQ(test::text_of(SafetensorsModel::open(dir.path()).entry("b").bytes), "bbb");
}

TEST(WriteSharded, WritesShardsAndIndexAsDiffusersDoes) {
  const TempDir dir;
  test::put_file(dir / "config.json", "{}");
  const auto written =
      write_safetensors_sharded(dir.path(), "diffusion_pytorch_model", kThree, 8, {{"k", "v"}});
  const std::string first = "diffusion_pytorch_model-00001-of-00002.safetensors";
  const std::string second = "diffusion_pytorch_model-00002-of-00002.safetensors";
  const std::string index = "diffusion_pytorch_model.safetensors.index.json";
  EXPECT_THAT(written, ElementsAre(dir / first, dir / second, dir / index));
  EXPECT_THAT(dir.list(), ElementsAre("config.json", first, second, index));
  EXPECT_EQ(get_file(dir / index),
            "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n"
            "    \"a\": \"" +
                second + "\",\n    \"b\": \"" + second + "\",\n    \"c\": \"" + first +
                "\"\n  }\n}\n");

  const SafetensorsModel model = SafetensorsModel::open(dir.path());
  EXPECT_THAT(model.names(), ElementsAre("c", "a", "b"));
  EXPECT_EQ(test::text_of(model.entry("a").bytes), "aaaa");
  EXPECT_EQ(model.files().front().metadata().at("k"), "v");
}

TEST(WriteSharded, GivesALargeTensorAShardOfItsOwn) {
  const TempDir dir;
  const auto written = write_safetensors_sharded(dir.path(), "model", kThree, 1);
  EXPECT_EQ(written.size(), 4u);  // three shards and the index
  EXPECT_THAT(SafetensorsModel::open(dir.path()).names(), ElementsAre("c", "a", "b"));
}

TEST(WriteSharded, RefusesAFolderOfTheOtherForm) {
  const TempDir dir;
  write_safetensors_sharded(dir.path(), "model", kThree, 100);
  const auto before = dir.list();
  EXPECT_THAT(error_of([&] { write_safetensors_sharded(dir.path(), "model", kThree, 8); }),
              HasSubstr("got model.safetensors"));
  EXPECT_EQ(dir.list(), before);
}

TEST(WriteSharded, LeavesNothingOnAFullDisk) {
  const TempDir dir;
  const std::string large(100'000, 'x');
  const std::vector<NamedTensor> tensors = {bytes_tensor("a", "small"), bytes_tensor("b", large)};
  std::string message;
  {
    const test::FileSizeLimit limit(4096);
    message = error_of([&] { write_safetensors_sharded(dir.path(), "model", tensors, 8); });
  }
  EXPECT_EQ(message, "cannot write " + (dir / "model-00002-of-00002.safetensors").string() +
                         ": File too large");
  EXPECT_THAT(dir.list(), IsEmpty());
}

TEST(WriteSharded, RefusesAStemThatLeavesTheFolder) {
  const TempDir dir;
  EXPECT_THAT(error_of([&] { write_safetensors_sharded(dir.path(), "../model", kThree, 8); }),
              HasSubstr("required a file name as stem, got \"../model\""));
}

}  // namespace
}  // namespace rtlynx
