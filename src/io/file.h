// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rtlynx {

/// A regular file mapped read-only. The bytes stay where they are when the object is moved. A file
/// that another process shortens while it is mapped ends this one (SIGBUS): rtlynx itself replaces
/// files by renaming, which leaves an open mapping intact.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }

  /// Reads the bytes from `offset` on, beside the mapping: what was read does not count as memory
  /// of this process, and a file that was shortened is an Error. From several threads at once.
  void read(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::span<const std::byte> bytes_;
};

/// Reads all of a regular file; throws Error when it is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes);

/// The same for whatever gives bytes and comes to an end, a pipe among others, and for "-", which
/// is standard input.
std::string read_stream(const std::filesystem::path& path, std::size_t max_bytes);

/// Throws Error unless a file could have this name: it is not too long and leads to no folder or
/// device.
void check_replaceable(const std::filesystem::path& path);

/// The same, and a file can be written there now: said before long work, not after it. Leaves
/// nothing behind.
void check_writable(const std::filesystem::path& path);

/// A file that appears under its name only when it is complete. The bytes go to a temporary name in
/// the same folder; commit() flushes and renames. After an error, or without a commit, the
/// temporary file is removed and whatever was at `path` before is untouched.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);

  /// Ends the writing and releases the descriptor, for a set of files that are committed together.
  void seal();
  void commit();

  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail_ended() const;
  [[noreturn]] void abandon(std::string_view action, int error_number);
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once renamed or removed
  int descriptor_ = -1;
};

/// Files that belong together. All are on the disk, under temporary names, before the first gets
/// its own.
class FileSet {
 public:
  /// Takes a file whose bytes are written.
  void add(AtomicFile file);
  void add(const std::filesystem::path& path, std::string_view text);
  /// Renames in the order of addition. Sets that end in one folder do not mix: the last whole one
  /// wins. `complete`, if it exists, is removed before the first and must come last: who finds it
  /// finds a whole set.
  void commit(const std::filesystem::path& complete = {});

 private:
  std::vector<AtomicFile> files_;
};

/// Keeps other processes that ask for the same folder's lock waiting while it lives. Where a file
/// system has no locks it does nothing.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace rtlynx
