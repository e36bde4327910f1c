// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/text.h"

namespace rtlynx {
namespace {

[[noreturn]] void fail_system(std::string_view action, const std::filesystem::path& path,
                              int error_number) {
  throw Error(fmt::format("cannot {} {}: {}", action, printable(path.string()),
                          std::generic_category().message(error_number)));
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

/// A regular file open for reading.
class RegularFile {
 public:
  // O_NONBLOCK: a named pipe is to be refused below, not waited for.
  explicit RegularFile(const std::filesystem::path& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_.get() < 0) fail_system("open", path, errno);
    struct stat status {};
    if (::fstat(descriptor_.get(), &status) != 0) fail_system("read the status of", path, errno);
    if (!S_ISREG(status.st_mode)) {
      fail(printable(path.string()), "a regular file",
           S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket");
    }
    size_ = static_cast<std::size_t>(status.st_size);
  }

  int descriptor() const { return descriptor_.get(); }
  int release_descriptor() { return descriptor_.release(); }
  std::size_t size() const { return size_; }

 private:
  Descriptor descriptor_;
  std::size_t size_ = 0;
};

std::string read_up_to(int descriptor, const std::filesystem::path& path, std::size_t bytes) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  std::string text;
  while (text.size() < bytes) {
    const std::size_t filled = text.size();
    text.resize(filled + std::min(bytes - filled, kPiece));
    const ssize_t got = ::read(descriptor, text.data() + filled, text.size() - filled);
    const int error_number = errno;
    text.resize(filled + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error_number == EINTR) continue;
    if (got < 0) fail_system("read", path, error_number);
    if (got == 0) break;
  }
  return text;
}

/// Where the new file is to be. A link is followed so that it stays a link; a device such as
/// /dev/null must not be replaced by a file.
std::filesystem::path resolve_target(const std::filesystem::path& path) {
  // Temporary names are short: whether the file's own would do shows here.
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0 && errno != ENOENT) fail_system("write", path, errno);
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (!std::filesystem::exists(status)) return path;
  if (!std::filesystem::is_regular_file(status)) {
    fail(fmt::format("write {}", printable(path.string())), "a regular file or a new name",
         std::filesystem::is_directory(status) ? "a directory" : "a device, pipe or socket");
  }
  if (!std::filesystem::is_symlink(path, ignored)) return path;
  const auto target = std::filesystem::canonical(path, ignored);
  return ignored ? path : target;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  RegularFile file(path);
  if (file.size() > 0) {
    void* address = ::mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (address == MAP_FAILED) fail_system("map", path, errno);
    bytes_ = {static_cast<const std::byte*>(address), file.size()};
  }
  descriptor_ = file.release_descriptor();
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) ::close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_system("read", path_, errno);
    if (got == 0) {
      fail(printable(path_.string()),
           fmt::format("{} bytes more from offset {}", into.size(), offset),
           "the end of the file, which was shortened since it was opened");
    }
    offset += static_cast<std::uint64_t>(got);
    into = into.subspan(static_cast<std::size_t>(got));
  }
}

std::string read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  const RegularFile file(path);
  if (file.size() > max_bytes) {
    fail(printable(path.string()), fmt::format("at most {} bytes", max_bytes),
         fmt::format("{} bytes", file.size()));
  }
  return read_up_to(file.descriptor(), path, file.size());
}

std::string read_stream(const std::filesystem::path& path, std::size_t max_bytes) {
  const bool is_input = path == "-";
  const Descriptor opened(is_input ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!is_input && opened.get() < 0) fail_system("open", path, errno);
  std::string text = read_up_to(is_input ? STDIN_FILENO : opened.get(), path, max_bytes + 1);
  if (text.size() > max_bytes) {
    fail(printable(path.string()), fmt::format("at most {} bytes", max_bytes), "more");
  }
  return text;
}

void check_replaceable(const std::filesystem::path& path) { resolve_target(path); }

void check_writable(const std::filesystem::path& path) { const AtomicFile probe(path); }

AtomicFile::AtomicFile(std::filesystem::path path) : path_(resolve_target(path)) {
  static std::atomic<std::uint64_t> count = 0;
  do {
    // Short and fixed, so that a target whose name has the greatest allowed length still works.
    temporary_ = path_.parent_path() / fmt::format(".rtlynx-{}-{}.tmp", ::getpid(), ++count);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail_system("write", path_, errno);
}

AtomicFile::~AtomicFile() { discard(); }

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {
  other.temporary_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) fail_ended();
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) abandon("write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void AtomicFile::seal() {
  if (descriptor_ < 0) fail_ended();
  if (::fsync(descriptor_) != 0) abandon("write", errno);
  // Network file systems report a full disk here.
  if (::close(std::exchange(descriptor_, -1)) != 0) abandon("write", errno);
}

void AtomicFile::commit() {
  if (descriptor_ >= 0) seal();
  if (temporary_.empty()) fail_ended();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) abandon("rename into", errno);
  temporary_.clear();
}

void AtomicFile::fail_ended() const {
  fail(fmt::format("write {}", printable(path_.string())), "a file still being written",
       "one committed, sealed or abandoned");
}

void AtomicFile::abandon(std::string_view action, int error_number) {
  discard();
  fail_system(action, path_, error_number);
}

void AtomicFile::discard() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void FileSet::add(AtomicFile file) {
  file.seal();
  files_.push_back(std::move(file));
}

void FileSet::add(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  add(std::move(file));
}

void FileSet::commit(const std::filesystem::path& complete) {
  if (files_.empty()) return;
  const FolderLock lock(files_.back().path().parent_path());
  if (!complete.empty() && ::unlink(complete.c_str()) != 0 && errno != ENOENT) {
    fail_system("replace", complete, errno);
  }
  for (AtomicFile& file : files_) file.commit();
  files_.clear();
}

FolderLock::FolderLock(const std::filesystem::path& folder)
    : descriptor_(
          ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  while (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
  }
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace rtlynx
