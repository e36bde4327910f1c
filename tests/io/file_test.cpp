// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "io/folder_use.h"
#include "io/io_test_util.h"
#include "io/text.h"

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

TEST(AtomicFile, RefusesANameThatIsTooLong) {
  const TempDir dir;
  const auto path = dir / std::string(256, 'n');
  EXPECT_EQ(error_of([&] { AtomicFile file(path); }),
            "cannot write " + printable(path.string()) + ": File name too long");
}

TEST(CheckWritable, LeavesNothingBehind) {
  const TempDir dir;
  check_writable(dir / "new");
  EXPECT_THAT(dir.list(), IsEmpty());
  EXPECT_THAT(error_of([&] { check_writable(dir.path()); }), HasSubstr("got a directory"));
  put_file(dir / "file", "x");
  EXPECT_THAT(error_of([&] { check_writable(dir / "file" / "in"); }), HasSubstr("Not a directory"));
  EXPECT_EQ(get_file(dir / "file"), "x");
}

TEST(FileSet, AppearsTogether) {
  const TempDir dir;
  put_file(dir / "index", "old");
  put_file(dir / "a", "old");
  {
    FileSet lost;
    lost.add(dir / "a", "lost");
    EXPECT_EQ(get_file(dir / "index"), "old");
  }
  FileSet files;
  files.add(dir / "a", "new a");
  files.add(dir / "b", "new b");
  files.add(dir / "index", "new");
  EXPECT_EQ(get_file(dir / "a"), "old");
  files.commit(/*complete=*/dir / "index");
  EXPECT_EQ(get_file(dir / "a") + get_file(dir / "b") + get_file(dir / "index"), "new anew bnew");
  EXPECT_THAT(dir.list(), ElementsAre("a", "b", "index"));
}

TEST(FileSet, FullDiskLeavesTheOldSet) {
  const TempDir dir;
  put_file(dir / "a", "old");
  {
    const FileSizeLimit limit(100);
    FileSet files;
    files.add(dir / "a", "new");
    EXPECT_THAT(error_of([&] { files.add(dir / "b", std::string(1000, 'x')); }), HasSubstr("b"));
  }
  EXPECT_EQ(get_file(dir / "a"), "old");
  EXPECT_THAT(dir.list(), ElementsAre("a"));
}

TEST(FolderLock, KeepsAnotherWaiting) {
  const TempDir dir;
  const int other = ::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY);
  {
    const FolderLock lock(dir.path());
    EXPECT_NE(::flock(other, LOCK_EX | LOCK_NB), 0);
  }
  EXPECT_EQ(::flock(other, LOCK_EX | LOCK_NB), 0);
  ::close(other);
  const FolderLock none(dir / "missing");  // nothing to lock, nothing to say
}

TEST(FolderUse, EndsAloneWhenTheOthersHaveEnded) {
  const TempDir dir;
  std::optional<FolderUse> first(std::in_place, dir.path());
  FolderUse second(dir.path());
  EXPECT_FALSE(second.end_alone());
  FolderUse third(dir.path());
  first.reset();
  EXPECT_TRUE(third.end_alone());
  EXPECT_TRUE(FolderUse(dir / "missing").end_alone());
}

TEST(ReadStream, ReadsAPipeUpToTheLimit) {
  const TempDir dir;
  const auto pipe = dir / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { put_file(pipe, "12345"); });
  EXPECT_EQ(read_stream(pipe, 5), "12345");
  writer.join();
  put_file(dir / "five", "12345");
  EXPECT_THAT(error_of([&] { read_stream(dir / "five", 4); }), HasSubstr("at most 4 bytes, got"));
  EXPECT_THAT(error_of([&] { read_stream(dir.path(), 4); }), HasSubstr("Is a directory"));
  EXPECT_THAT(error_of([&] { read_stream(dir / "none", 4); }), HasSubstr("cannot open"));
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

TEST(MappedFile, ReadsPartsAndNoticesAFileThatWasShortened) {
  const TempDir dir;
  const auto path = dir / "file";
  put_file(path, "0123456789");
  const MappedFile file(path);
  std::string part(4, ' ');
  file.read(3, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "3456");
  std::filesystem::resize_file(path, 5);
  const std::string message =
      error_of([&] { file.read(3, std::as_writable_bytes(std::span(part))); });
  EXPECT_NE(message.find("required 2 bytes more from offset 5"), std::string::npos) << message;
}

TEST(MappedFile, MapsAnEmptyFile) {
  const TempDir dir;
  put_file(dir / "empty", "");
  EXPECT_TRUE(MappedFile(dir / "empty").bytes().empty());
}

}  // namespace
}  // namespace rtlynx
