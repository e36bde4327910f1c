// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

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

 private:
  std::span<const std::byte> bytes_;
};

/// Reads all of a regular file; throws Error when it is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes);

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

 private:
  [[noreturn]] void fail_ended() const;
  [[noreturn]] void abandon(std::string_view action, int error_number);
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once renamed or removed
  int descriptor_ = -1;
};

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace rtlynx
