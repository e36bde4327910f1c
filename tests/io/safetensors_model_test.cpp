// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/io_test_util.h"
#include "io/safetensors.h"

namespace rtlynx {
namespace {

using test::error_of;
using test::put_file;
using test::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A file of one-byte tensors, each holding the first letter of its name.
std::string file_of(const std::vector<std::string>& names) {
  std::string header = "{";
  std::string data;
  for (const std::string& name : names) {
    const std::string begin = std::to_string(data.size());
    data += name[0];
    header += (header.size() > 1 ? ",\"" : "\"") + name +
              R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + begin + "," +
              std::to_string(data.size()) + "]}";
  }
  return test::make_safetensors(header + "}", data);
}

class Sharded : public ::testing::Test {
 protected:
  Sharded() {
    put_file(dir_ / "1.safetensors", file_of({"b", "a"}));
    put_file(dir_ / "2.safetensors", file_of({"c"}));
  }

  void put_index(const std::string& weight_map) {
    put_file(index_, R"({"metadata":{"total_size":3},"weight_map":)" + weight_map + "}");
  }
  std::string open_error() const {
    return error_of([&] { SafetensorsModel::open(dir_.path()); });
  }
  std::string in_tensor(const std::string& name) const {
    return index_.string() + ", tensor \"" + name + "\": ";
  }

  TempDir dir_;
  std::filesystem::path index_ = dir_ / "model.safetensors.index.json";
};

TEST_F(Sharded, PresentsOneNamespace) {
  put_index(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})");
  for (const auto& path : {dir_.path(), index_}) {
    const SafetensorsModel model = SafetensorsModel::open(path);
    EXPECT_THAT(model.names(), ElementsAre("b", "a", "c"));
    EXPECT_EQ(test::text_of(model.entry("c").bytes), "c");
    EXPECT_EQ(model.files().size(), 2u);
    EXPECT_TRUE(model.contains("a"));
    EXPECT_EQ(error_of([&] { model.entry("d"); }),
              index_.string() + ": required tensor \"d\", got 3 tensors, none of that name");
  }
}

TEST_F(Sharded, RefusesATensorThatIsNotInItsShard) {
  put_index(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","d":"2.safetensors"})");
  EXPECT_EQ(open_error(),
            in_tensor("d") + "required it in shard \"2.safetensors\", got no such tensor in it");
  put_index(R"({"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"})");
  EXPECT_EQ(open_error(),
            in_tensor("a") + "required it in shard \"2.safetensors\", got 1.safetensors");
}

TEST_F(Sharded, RefusesAMissingShard) {
  put_index(R"({"a":"1.safetensors","b":"1.safetensors","c":"3.safetensors"})");
  EXPECT_EQ(open_error(), in_tensor("c") + "required shard \"3.safetensors\", got no such file");
}

TEST_F(Sharded, RefusesATensorInTwoShards) {
  put_file(dir_ / "2.safetensors", file_of({"c", "a"}));
  put_index(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})");
  EXPECT_EQ(open_error(), in_tensor("a") +
                              "required it in one shard, got it in 1.safetensors and "
                              "2.safetensors");
}

TEST_F(Sharded, RefusesATensorThatTheIndexDoesNotList) {
  put_index(R"({"a":"1.safetensors","c":"2.safetensors"})");
  EXPECT_EQ(open_error(), (dir_ / "1.safetensors").string() +
                              ", tensor \"b\": required it listed in "
                              "model.safetensors.index.json, got no mention");
}

TEST_F(Sharded, RefusesPathsThatLeaveTheFolder) {
  for (const char* shard : {"\"../1.safetensors\"", "\"/1.safetensors\"", "\"\"", "\"..\"",
                            "\"sub/1.safetensors\"", R"("1\u0000")", "1"}) {
    put_index(std::string("{\"a\":") + shard + "}");
    EXPECT_THAT(open_error(),
                StartsWith(in_tensor("a") + "required the name of a shard in the same folder"));
  }
}

TEST_F(Sharded, RefusesAnIndexOfAnotherForm) {
  for (const char* text : {"[]", "{}", R"({"weight_map":[]})"}) {
    put_file(index_, text);
    EXPECT_EQ(open_error(), index_.string() +
                                ": required an object \"weight_map\" of tensor names and shard "
                                "files, got none");
  }
  put_index(R"({"a":"1.safetensors","a":"2.safetensors"})");
  EXPECT_THAT(open_error(), AllOf(StartsWith(index_.string()), HasSubstr("\"a\" again")));
}

TEST_F(Sharded, NamesTheShardThatIsDamaged) {
  put_file(dir_ / "2.safetensors", "short");
  put_index(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})");
  EXPECT_THAT(open_error(), StartsWith((dir_ / "2.safetensors").string() + ": required at least"));
}

TEST(SafetensorsModel, FindsTheFileOfAFolder) {
  const TempDir dir;
  EXPECT_EQ(error_of([&] { SafetensorsModel::open(dir.path()); }),
            dir.path().string() +
                ": required one of diffusion_pytorch_model.safetensors, "
                "diffusion_pytorch_model.safetensors.index.json, model.safetensors, "
                "model.safetensors.index.json, got none");
  put_file(dir / "model.safetensors", file_of({"a"}));
  EXPECT_THAT(SafetensorsModel::open(dir.path()).names(), ElementsAre("a"));
  EXPECT_THAT(SafetensorsModel::open(dir / "model.safetensors").names(), ElementsAre("a"));

  put_file(dir / "lora.safetensors", file_of({"l"}));
  EXPECT_THAT(SafetensorsModel::open(dir.path(), "lora").names(), ElementsAre("l"));
  EXPECT_EQ(error_of([&] { SafetensorsModel::open(dir.path(), "vae"); }),
            dir.path().string() +
                ": required one of vae.safetensors, vae.safetensors.index.json, got none");
}

TEST(SafetensorsModel, SaysWhichOfTwoFormsIsStale) {
  const TempDir dir;
  const auto index = dir / "model.safetensors.index.json";
  const auto error = [&] { return error_of([&] { SafetensorsModel::open(dir.path()); }); };
  put_file(dir / "model.safetensors", file_of({"a"}));
  put_file(index, "{}");
  EXPECT_THAT(error(), HasSubstr("an index, which cannot be read: remove the stale"));
  put_file(index, R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  EXPECT_THAT(error(), HasSubstr("of which 2 shards are not there: remove the stale "
                                 "model.safetensors.index.json"));
  put_file(dir / "1.safetensors", file_of({"a"}));
  put_file(dir / "2.safetensors", file_of({"b"}));
  EXPECT_THAT(error(), HasSubstr("both whole: remove the one that is not meant"));
  put_file(dir / "diffusion_pytorch_model.safetensors", file_of({"a"}));
  std::filesystem::remove(index);
  EXPECT_THAT(error(), HasSubstr("got diffusion_pytorch_model.safetensors and model.safetensors"));
}

TEST(SafetensorsModel, NamesTheVariantOrFormThatIsThere) {
  const TempDir dir;
  const auto error = [&] { return error_of([&] { SafetensorsModel::open(dir.path(), "model"); }); };
  put_file(dir / "model.bin", "x");
  EXPECT_THAT(error(), HasSubstr("got only model.bin: a form that is not read"));
  std::filesystem::remove(dir / "model.bin");
  put_file(dir / "model.fp16.safetensors", file_of({"a"}));
  EXPECT_THAT(error(), HasSubstr("got only model.fp16.safetensors: another variant; link or copy"));
}

TEST(SafetensorsModel, NamesAMissingPath) {
  const TempDir dir;
  EXPECT_EQ(error_of([&] { SafetensorsModel::open(dir / "none"); }),
            "cannot open " + (dir / "none").string() + ": No such file or directory");
}

}  // namespace
}  // namespace rtlynx
