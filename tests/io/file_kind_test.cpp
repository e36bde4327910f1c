// SPDX-License-Identifier: Apache-2.0
#include "io/file_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/io_test_util.h"
#include "io/safetensors.h"

namespace rtlynx {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string kind_of(const std::string& bytes) {
  return describe_foreign_file(test::bytes_of(bytes)).value_or("unknown");
}

TEST(ForeignFile, IsNamedWithWhatToDo) {
  EXPECT_THAT(kind_of("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(kind_of("GGUF\x03"s), HasSubstr("GGUF"));
  EXPECT_THAT(kind_of("\x80\x02}q"s), HasSubstr("pickle"));
  EXPECT_THAT(kind_of("PK\x03\x04rest"s), HasSubstr("safetensors.torch.save_file"));
  EXPECT_THAT(kind_of("\xef\xbb\xbf\n <!DOCTYPE html>"s), HasSubstr("web page"));
  EXPECT_THAT(kind_of("<html><head>"), HasSubstr("web page"));
  EXPECT_THAT(kind_of("<?xml version='1.0'?><Error>"), HasSubstr("web page"));
  EXPECT_THAT(kind_of(""), HasSubstr("empty file"));
  EXPECT_EQ(kind_of("{\"a\": 1}"), "unknown");
  EXPECT_EQ(kind_of("\x08\0\0\0\0\0\0\0{      }"s), "unknown");
}

TEST(ForeignFile, IsSaidInPlaceOfItsHeaderSize) {
  const auto error = [](const std::string& bytes) {
    return test::error_of([&] { parse_safetensors(test::bytes_of(bytes), "f.safetensors"); });
  };
  EXPECT_THAT(error("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"),
              StartsWith("f.safetensors: required a safetensors file, got a Git LFS pointer"));
  EXPECT_THAT(error("<!doctype html><html>"), HasSubstr("got a web page"));
  EXPECT_THAT(error("\x80\x02\x8a\x0al\xfc j"s), HasSubstr("got a pickle"));
  // A header of 0x280 bytes begins like a pickle, and is none.
  std::string header = R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})";
  header.resize(0x280, ' ');
  EXPECT_NO_THROW(parse_safetensors(test::bytes_of(test::make_safetensors(header)), "f"));
}

TEST(ForeignTensor, IsNamedByItsForm) {
  EXPECT_THAT(describe_foreign_tensor("scaled_fp8").value_or(""), HasSubstr("scaled FP8"));
  EXPECT_THAT(describe_foreign_tensor("proj_out.scale_weight").value_or(""), HasSubstr("FP8"));
  EXPECT_THAT(describe_foreign_tensor("x.weight.absmax").value_or(""), HasSubstr("bitsandbytes"));
  EXPECT_THAT(describe_foreign_tensor("double_blocks.0.img_attn.qkv.weight").value_or(""),
              HasSubstr("diffusers' layout"));
  EXPECT_FALSE(describe_foreign_tensor("transformer_blocks.0.attn.to_q.weight"));
}

}  // namespace
}  // namespace rtlynx
