// SPDX-License-Identifier: Apache-2.0
#include "pipeline/prompt_cache.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

PromptFeatures features_of(double value) {
  return {{"tokens", torch::full({3, 4}, value, torch::kBFloat16)},
          {"pooled", torch::full({5}, value + 1)}};
}

class PromptCacheTest : public testing::Test {
 protected:
  std::vector<fs::path> files() const {
    const fs::directory_iterator all(folder_);
    return {fs::begin(all), fs::end(all)};
  }
  /// Of the only file, or of all of them.
  static void make_older(const fs::path& file, int hours) {
    fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(hours));
  }
  void expect_found(const PromptCache& cache, const std::string& key, double value) {
    const auto found = cache.find(key);
    ASSERT_TRUE(found) << key;
    ASSERT_EQ(found->size(), 2);
    for (const auto& [name, expected] : features_of(value)) {
      EXPECT_EQ(found->at(name).scalar_type(), expected.scalar_type());
      EXPECT_TRUE(torch::equal(found->at(name), expected)) << name;
    }
  }

  test::TempDir temporary_;
  fs::path folder_ = temporary_ / "a" / "cache";
};

TEST_F(PromptCacheTest, GivesWhatWasKeptToEveryProcess) {
  const PromptCache cache(folder_);
  EXPECT_FALSE(cache.find("model a cat"));
  cache.keep("model a cat", features_of(1));
  cache.keep("model a dog\n", features_of(2));
  expect_found(PromptCache(folder_), "model a cat", 1);
  expect_found(PromptCache(folder_), "model a dog\n", 2);
  EXPECT_FALSE(cache.find("model a dog"));
}

TEST_F(PromptCacheTest, AnotherKeysFileIsNotTaken) {
  const PromptCache cache(folder_);
  cache.keep("one", features_of(1));
  const fs::path file = files().front();
  cache.keep("two", features_of(2));
  // As if both had one hash.
  for (const fs::path& other : files()) {
    if (other != file) fs::copy_file(file, other, fs::copy_options::overwrite_existing);
  }
  EXPECT_FALSE(cache.find("two"));
  cache.keep("two", features_of(3));
  expect_found(cache, "two", 3);
}

TEST_F(PromptCacheTest, ABrokenFileIsAsNone) {
  const PromptCache cache(folder_);
  cache.keep("key", features_of(1));
  fs::resize_file(files().front(), fs::file_size(files().front()) / 2);
  EXPECT_FALSE(cache.find("key"));
  cache.keep("key", features_of(2));
  expect_found(cache, "key", 2);
}

TEST_F(PromptCacheTest, DamageIsSeen) {
  const PromptCache cache(folder_);
  cache.keep("key", features_of(1));
  std::fstream file(files().front(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x11');
  file.close();
  EXPECT_FALSE(cache.find("key"));
}

TEST_F(PromptCacheTest, OthersFilesAreLeftAlone) {
  fs::create_directories(folder_);
  std::ofstream(folder_ / "weights.safetensors") << std::string(1000, 'x');
  const PromptCache cache(folder_, 1);
  cache.keep("key", features_of(1));
  EXPECT_EQ(files(), std::vector{folder_ / "weights.safetensors"});
}

TEST_F(PromptCacheTest, ALinkIsNeitherReadNorWrittenThrough) {
  const PromptCache cache(folder_);
  cache.keep("key", features_of(1));
  const fs::path file = files().front();
  fs::rename(file, temporary_ / "target");
  fs::create_symlink(temporary_ / "target", file);
  const auto bytes = fs::file_size(temporary_ / "target");
  EXPECT_FALSE(cache.find("key"));
  cache.keep("key", {{"tokens", torch::zeros({9, 9})}});
  EXPECT_EQ(fs::file_size(temporary_ / "target"), bytes);
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(file)));
}

TEST_F(PromptCacheTest, WhatAKilledWriterLeftIsRemoved) {
  const PromptCache cache(folder_);
  std::ofstream(folder_ / ".rtlynx-1-1.tmp") << "x";
  std::ofstream(folder_ / ".rtlynx-1-2.tmp") << "x";
  make_older(folder_ / ".rtlynx-1-1.tmp", 2);
  cache.keep("key", features_of(1));
  EXPECT_FALSE(fs::exists(folder_ / ".rtlynx-1-1.tmp"));
  EXPECT_TRUE(fs::exists(folder_ / ".rtlynx-1-2.tmp"));
}

TEST_F(PromptCacheTest, TheLongestUnusedIsRemoved) {
  PromptCache(folder_).keep("old", features_of(1));
  const std::uint64_t bytes = fs::file_size(files().front());
  make_older(files().front(), 2);
  const PromptCache cache(folder_, 2 * bytes);
  cache.keep("new", features_of(2));
  for (const fs::path& file : files()) make_older(file, 1);
  expect_found(cache, "old", 1);  // which makes it the younger one
  cache.keep("key", features_of(3));
  EXPECT_EQ(files().size(), 2);
  expect_found(cache, "old", 1);
  expect_found(cache, "key", 3);
  EXPECT_FALSE(cache.find("new"));
}

TEST_F(PromptCacheTest, TwoProcessesWriteAndRemoveAtOnce) {
  const PromptCache whole(folder_);
  whole.keep("0", features_of(0));
  const std::uint64_t bytes = fs::file_size(files().front());
  const auto work = [&] {
    const PromptCache cache(folder_, 3 * bytes);
    for (int round = 0; round < 100; ++round) {
      const std::string key = std::to_string(round % 7);
      if (const auto found = cache.find(key)) {
        if (!torch::equal(found->at("pooled"), features_of(round % 7).at("pooled"))) return false;
      } else {
        cache.keep(key, features_of(round % 7));
      }
    }
    return true;
  };
  torch::set_num_threads(1);  // a child of fork() has no other thread
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work() ? 0 : 1);
  EXPECT_TRUE(work());
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_LE(files().size(), 3);
}

TEST_F(PromptCacheTest, AFolderThatCannotBeIsRefused) {
  std::ofstream(temporary_ / "file") << "x";
  EXPECT_NE(refusal([&] { PromptCache(temporary_ / "file" / "cache"); }).find("a folder"),
            std::string::npos);
}

}  // namespace
}  // namespace rtlynx
