// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "io/io_test_util.h"

namespace rtlynx {
namespace {

using test::error_of;
using test::FileSizeLimit;
using test::get_file;
using test::put_file;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(AtomicFile, AppearsOnCommit) {
  const TempDir dir;
  const auto path = dir / "out.bin";
  AtomicFile file(path);
  file.write("first ");
  file.write("second");
  EXPECT_FALSE(std::filesystem::exists(path));
  file.commit();
  EXPECT_EQ(get_file(path), "first second");
  EXPECT_THAT(dir.list(), ElementsAre("out.bin"));
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TempDir dir;
  {
    AtomicFile file(dir / "out.bin");
    file.write("half");
    AtomicFile moved = std::move(file);
    moved.write("more");
    moved.seal();
  }
  EXPECT_THAT(dir.list(), IsEmpty());
}

TEST(AtomicFile, ReplacesAndFollowsLinks) {
  const TempDir dir;
  put_file(dir / "real", "old");
  std::filesystem::create_symlink("real", dir / "link");
  write_file_atomically(dir / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(get_file(dir / "real"), "new");
  EXPECT_THAT(dir.list(), ElementsAre("link", "real"));
}

TEST(AtomicFile, FullDiskLeavesTheOldFileAndNothingElse) {
  const TempDir dir;
  const auto path = dir / "out.bin";
  put_file(path, "old");
  std::string message;
  {
    const FileSizeLimit limit(4096);
    message = error_of([&] { write_file_atomically(path, std::string(100'000, 'x')); });
  }
  EXPECT_EQ(message, "cannot write " + path.string() + ": File too large");
  EXPECT_EQ(get_file(path), "old");
  EXPECT_THAT(dir.list(), ElementsAre("out.bin"));
}

TEST(AtomicFile, RefusesUseAfterAnError) {
  const TempDir dir;
  AtomicFile file(dir / "out.bin");
  {
    const FileSizeLimit limit(16);
    error_of([&] { file.write(std::string(100, 'x')); });
  }
  EXPECT_THAT(dir.list(), IsEmpty());
  const std::string message = "write " + (dir / "out.bin").string() +
                              ": required a file still being written, got one committed, sealed "
                              "or abandoned";
  EXPECT_EQ(error_of([&] { file.write("x"); }), message);
  EXPECT_EQ(error_of([&] { file.commit(); }), message);
  EXPECT_THAT(dir.list(), IsEmpty());
}

TEST(AtomicFile, NamesPathAndReason) {
  const TempDir dir;
  const auto missing = dir / "missing" / "out.bin";
  EXPECT_EQ(error_of([&] { write_file_atomically(missing, "x"); }),
            "cannot write " + missing.string() + ": No such file or directory");
  EXPECT_EQ(
      error_of([&] { write_file_atomically(dir.path(), "x"); }),
      "write " + dir.path().string() + ": required a regular file or a new name, got a directory");
  EXPECT_THAT(error_of([] { write_file_atomically("/dev/null", "x"); }),
              HasSubstr("required a regular file or a new name, got a device"));
}

TEST(AtomicFile, TakesTheLongestName) {
  const TempDir dir;
  const std::string name(255, 'n');
  write_file_atomically(dir / name, "x");
  EXPECT_THAT(dir.list(), ElementsAre(name));
}

TEST(ReadFile, ReadsUpToTheLimit) {
  const TempDir dir;
  put_file(dir / "five", "12345");
  EXPECT_EQ(read_file(dir / "five", 5), "12345");
  EXPECT_EQ(error_of([&] { read_file(dir / "five", 4); }),
            (dir / "five").string() + ": required at most 4 bytes, got 5 bytes");
}

TEST(ReadFile, RefusesWhatIsNoFile) {
  const TempDir dir;
  EXPECT_EQ(error_of([&] { read_file(dir / "none", 10); }),
            "cannot open " + (dir / "none").string() + ": No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(dir.path(), 10); }),
            dir.path().string() + ": required a regular file, got a directory");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { read_file(dir / "pipe", 10); }),
              HasSubstr("required a regular file, got a device, pipe or socket"));
}

TEST(MappedFile, OutlivesMoveAndReplacement) {
  const TempDir dir;
  const auto path = dir / "mapped";
  put_file(path, "content");
  MappedFile first(path);
  const MappedFile second = std::move(first);
  write_file_atomically(path, "x");
  EXPECT_EQ(test::text_of(second.bytes()), "content");
}

TEST(MappedFile, MapsAnEmptyFile) {
  const TempDir dir;
  put_file(dir / "empty", "");
  EXPECT_TRUE(MappedFile(dir / "empty").bytes().empty());
}

}  // namespace
}  // namespace rtlynx
