// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/tune.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/gemm/select.h"

namespace rtlynx::gpu {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Path = Gemm24Config::Path;

constexpr const char* kGpu = "NVIDIA H200";
constexpr DeviceTraits kDevice{
    .compute_capability = 90, .multiprocessors = 132, .shared_bytes = kSm90SharedBytes};
constexpr Gemm24Shape kShape{.tokens = 4608, .outputs = 12288, .channels = 3072, .rank = 64};
constexpr TunedGemm24 kTuned{.config = {.path = Path::sm90,
                                        .tile_tokens = 128,
                                        .tile_outputs = 256,
                                        .cluster = 2,
                                        .group_tiles = 4,
                                        .stream_k = true},
                             .microseconds = 291.125};
const std::string kRow = "NVIDIA H200|90|132|bf16|4608|12288|3072|64|sm90|128|256|2|4|1|291.125\n";
const std::string kHeader = "rtlynx-tune 1\n";

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class TuneCacheTest : public ::testing::Test {
 protected:
  TuneCacheTest()
      : folder_(fs::temp_directory_path() /
                ("rtlynx-tune-" + std::to_string(std::random_device{}()))) {
    fs::create_directory(folder_);
  }
  ~TuneCacheTest() override { fs::remove_all(folder_); }

  fs::path path() const { return folder_ / "tune.txt"; }

  TuneCache load_text(const std::string& text) const {
    std::ofstream(path(), std::ios::binary) << text;
    return TuneCache::load(path());
  }

  fs::path folder_;
};

TEST_F(TuneCacheTest, AMissingFileIsEmpty) {
  EXPECT_EQ(TuneCache::load(path()).size(), 0u);
  EXPECT_EQ(TuneCache::load(folder_ / "no" / "such" / "folder").size(), 0u);
}

TEST_F(TuneCacheTest, WhatIsSavedIsLoaded) {
  TuneCache cache;
  cache.insert(kGpu, kDevice, kShape, kTuned);
  Gemm24Shape half = kShape;
  half.dtype = DType::f16;
  const TunedGemm24 dense{.config = {}, .microseconds = 0.1};
  cache.insert(kGpu, kDevice, half, dense);
  cache.save(folder_ / "made" / "here" / "tune.txt");

  const TuneCache loaded = TuneCache::load(folder_ / "made" / "here" / "tune.txt");
  EXPECT_EQ(loaded.size(), 2u);
  EXPECT_EQ(loaded.lookup(kGpu, kDevice, kShape), kTuned);
  EXPECT_EQ(loaded.lookup(kGpu, kDevice, half), dense);
}

TEST_F(TuneCacheTest, FilesAreText) {
  TuneCache cache;
  cache.insert(kGpu, kDevice, kShape, kTuned);
  cache.save(path());
  EXPECT_EQ(read(path()), kHeader + kRow);
}

TEST_F(TuneCacheTest, RowsAreForTheirDeviceAndShapeOnly) {
  TuneCache cache;
  cache.insert(kGpu, kDevice, kShape, kTuned);
  EXPECT_FALSE(cache.lookup("NVIDIA H100", kDevice, kShape));
  DeviceTraits slice = kDevice;
  slice.multiprocessors = 60;
  EXPECT_FALSE(cache.lookup(kGpu, slice, kShape));
  Gemm24Shape other = kShape;
  other.rank = 32;
  EXPECT_FALSE(cache.lookup(kGpu, kDevice, other));
}

TEST_F(TuneCacheTest, TheLastRowCounts) {
  TuneCache cache;
  TunedGemm24 slower = kTuned;
  slower.microseconds = 300;
  cache.insert(kGpu, kDevice, kShape, slower);
  cache.insert(kGpu, kDevice, kShape, kTuned);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.lookup(kGpu, kDevice, kShape), kTuned);
}

TEST_F(TuneCacheTest, RowsThatCannotBeAreRefused) {
  TuneCache cache;
  const auto insert = [&](const char* gpu, DeviceTraits device, Gemm24Shape shape,
                          TunedGemm24 tuned) { cache.insert(gpu, device, shape, tuned); };
  EXPECT_THAT([&] { insert("a|b", kDevice, kShape, kTuned); },
              ThrowsMessage<Error>("tune cache: required the name of a GPU without '|' and control "
                                   "characters, got \"a|b\""));
  EXPECT_THROW(insert("a\nb", kDevice, kShape, kTuned), Error);
  EXPECT_THROW(insert("", kDevice, kShape, kTuned), Error);
  EXPECT_THROW(insert(kGpu, kDevice, {}, kTuned), Error);
  EXPECT_THAT(
      [&] {
        insert(kGpu, {89, 128, 101376}, kShape, kTuned);
      },
      ThrowsMessage<Error>("tune cache: required a configuration that the device can run, "
                           "got sm90 128x256 cluster 2 stream-K"));
  TunedGemm24 wrong = kTuned;
  wrong.config.tile_tokens = 64;
  EXPECT_THROW(insert(kGpu, kDevice, kShape, wrong), Error);
  for (const double us : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                          std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(insert(kGpu, kDevice, kShape, {kTuned.config, us}), Error);
  }
  EXPECT_EQ(cache.size(), 0u);
}

TEST_F(TuneCacheTest, MalformedFilesAreRefusedByLine) {
  const std::vector<std::pair<std::string, std::string>> malformed{
      {"", "line 1: required \"rtlynx-tune 1\", got \"\""},
      {"rtlynx-tune 2\n", "line 1: required \"rtlynx-tune 1\", got \"rtlynx-tune 2\""},
      {"rtlynx-tune 1", "line 1: required a line end, got the end of the file"},
      {kHeader + "\n", "line 2: required a field for the compute capability"},
      {kHeader + kRow + kRow.substr(0, 30) + "\n", "line 3: required a field for"},
      {kHeader + kRow.substr(0, kRow.size() - 1), "line 2: required a line end"},
      {kHeader + "x|90|132|bf16|4608|12288|3072|64|sm90|128|256|2|4|1|291|7\n",
       "line 2: required the end of the line after 15 fields, got \"7\""},
      {kHeader + "x|90 |132|bf16|4608|12288|3072|64|sm90|128|256|2|4|1|291\n",
       "line 2: required a number for the compute capability, got \"90 \""},
      {kHeader + "x|90|132|f32|4608|12288|3072|64|sm90|128|256|2|4|1|291\n",
       "line 2: required a known dtype, got \"f32\""},
      {kHeader + "x|90|132|bf16|99999999999999999999|8|16|0|sm90|128|256|2|4|1|291\n",
       "line 2: required a number for M"},
      {kHeader + "x|90|132|bf16|0|12288|3072|64|sm90|128|256|2|4|1|291\n",
       "line 2: required M, N and K of at least 1, got 0, 12288 and 3072"},
      {kHeader + "x|90|132|bf16|4608|12288|3072|65|sm90|128|256|2|4|1|291\n",
       "got dense: rank 65 is not"},
      {kHeader + "x|90|132|bf16|4608|12288|3072|64|sm70|128|256|2|4|1|291\n",
       "line 2: required a known path, got \"sm70\""},
      {kHeader + "x|90|132|bf16|4608|12288|3072|64|sm90|192|256|2|4|1|291\n",
       "line 2: required a configuration that the device can run, got sm90 192x256"},
      {kHeader + "x|90|132|bf16|4608|12288|3072|64|sm90|128|256|2|4|2|291\n",
       "line 2: required a known stream-K, got \"2\""},
      {kHeader + "x|90|132|bf16|4608|12288|3072|64|sm90|128|256|2|4|1|nan\n",
       "line 2: required microseconds above 0, got nan"},
      {kHeader + "x|90|\x1b[2J|bf16|4608|12288|3072|64|sm90|128|256|2|4|1|291\n",
       "line 2: required a number for the multiprocessors, got \"?[2J\""}};
  for (const auto& row : malformed) {
    EXPECT_THAT([&] { load_text(row.first); },
                ThrowsMessage<Error>(AllOf(HasSubstr(path().string()), HasSubstr(row.second))));
  }
}

TEST_F(TuneCacheTest, WhateverTheFileItIsLoadedOrRefused) {
  std::mt19937 random(41);
  const std::string whole = kHeader + kRow + kRow;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = whole.substr(0, random() % (whole.size() + 1));
    for (auto changes = random() % 4; changes > 0 && !text.empty(); --changes) {
      text[random() % text.size()] = "|\n0-9.e\xff\0b1"[random() % 12];
    }
    try {
      EXPECT_LE(load_text(text).size(), 2u);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("line"));
    }
  }
}

TEST_F(TuneCacheTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT([&] { TuneCache::load(folder_); },
              ThrowsMessage<Error>(HasSubstr("required a regular file")));
  EXPECT_THROW(TuneCache().save(folder_), Error);
  std::ofstream(folder_ / "file") << "text";
  EXPECT_THROW(TuneCache().save(folder_ / "file" / "tune.txt"), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);  // no temporary file is left
}

TEST_F(TuneCacheTest, ReadersNeverSeeHalfAFile) {
  TuneCache small;
  small.insert(kGpu, kDevice, kShape, kTuned);
  TuneCache large = small;
  for (int rank = 0; rank < 128; rank += 16) {
    Gemm24Shape shape = kShape;
    shape.rank = rank;
    for (shape.tokens = 1; shape.tokens < 100; ++shape.tokens) {
      large.insert(kGpu, kDevice, shape, kTuned);
    }
  }
  small.save(path());
  const auto save_often = [&](const TuneCache& cache) {
    for (int time = 0; time < 50; ++time) cache.save(path());
  };
  std::thread first(save_often, std::cref(small));
  std::thread second(save_often, std::cref(large));
  for (int time = 0; time < 50; ++time) {
    const std::size_t size = TuneCache::load(path()).size();
    EXPECT_TRUE(size == small.size() || size == large.size()) << size;
  }
  first.join();
  second.join();
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

/// Sets a variable until the end of the scope; null removes it.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~ScopedVariable() { set(before_ ? before_->c_str() : nullptr); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  void set(const char* value) { value != nullptr ? ::setenv(name_, value, 1) : ::unsetenv(name_); }

  const char* name_;
  std::optional<std::string> before_;
};

TEST(TuneCachePath, FollowsTheVariables) {
  const ScopedVariable own("RTLYNX_TUNE_CACHE", "/a/own.txt");
  EXPECT_EQ(TuneCache::default_path(), "/a/own.txt");
  const ScopedVariable no_own("RTLYNX_TUNE_CACHE", "");
  const ScopedVariable xdg("XDG_CACHE_HOME", "/x");
  EXPECT_EQ(TuneCache::default_path(), "/x/rtlynx/tune.txt");
  const ScopedVariable no_xdg("XDG_CACHE_HOME", nullptr);
  const ScopedVariable home("HOME", "/h");
  EXPECT_EQ(TuneCache::default_path(), "/h/.cache/rtlynx/tune.txt");
  const ScopedVariable no_home("HOME", nullptr);
  EXPECT_THAT([] { TuneCache::default_path(); },
              ThrowsMessage<Error>("tune cache: required the variable RTLYNX_TUNE_CACHE, "
                                   "XDG_CACHE_HOME or HOME, got none of them"));
}

TEST(SelectWithTuneCache, RowsGoBeforeTheModel) {
  TuneCache cache;
  cache.insert(kGpu, kDevice, kShape, kTuned);
  const auto choice = select_gemm24(kShape, kDevice, cache, kGpu);
  EXPECT_EQ(choice.config, kTuned.config);
  EXPECT_EQ(choice.reason,
            "sm90 128x256 cluster 2 stream-K: measured 291.1 us on this GPU (tune cache)");
  EXPECT_EQ(select_gemm24(kShape, kDevice, cache, "other").reason,
            select_gemm24(kShape, kDevice).reason);
}

TEST(SelectWithTuneCache, RowsMakeTheSm80PathPossible) {
  constexpr DeviceTraits kAda{.compute_capability = 89, .multiprocessors = 128};
  TuneCache cache;
  cache.insert("Ada", kAda, kShape, {.config = {.path = Path::sm80}, .microseconds = 900});
  EXPECT_EQ(select_gemm24(kShape, kAda, cache, "Ada").config.path, Path::sm80);
}

TEST(SelectWithTuneCache, WhatCannotRunStaysDense) {
  TuneCache cache;
  cache.insert(kGpu, kDevice, kShape, kTuned);
  DeviceTraits small = kDevice;
  small.shared_bytes = 1000;
  EXPECT_EQ(select_gemm24(kShape, small, cache, kGpu).config.path, Path::dense);
  Gemm24Shape wide = kShape;
  wide.dtype = DType::f32;
  EXPECT_EQ(select_gemm24(wide, kDevice, cache, kGpu).config.path, Path::dense);
}

}  // namespace
}  // namespace rtlynx::gpu
