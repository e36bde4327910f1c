// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace rtlynx {

/// The element types of the format, in the reference implementation's order.
enum class TensorDtype {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
};

/// The name in a safetensors header, such as "BF16".
std::string_view dtype_name(TensorDtype dtype);
std::size_t dtype_bytes(TensorDtype dtype);

/// Bytes of a dense tensor; nothing for a negative dimension or when the product of the dimensions
/// that are not zero does not fit.
std::optional<std::uint64_t> tensor_bytes(TensorDtype dtype, std::span<const std::int64_t> shape);

/// One tensor of a file. The bytes are little-endian, row-major, and not necessarily aligned to the
/// element: copy them (memcpy) rather than cast the pointer.
struct TensorEntry {
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// A parsed file; the entries point into the bytes that were parsed.
struct SafetensorsContents {
  std::vector<std::string> names;  // in the order of their bytes, so that a pass reads forward
  std::map<std::string, TensorEntry, std::less<>> tensors;
  SafetensorsMetadata metadata;
};

/// Parses a whole file in memory. Everything is checked before it is used, and the tensors must
/// cover the data exactly, as in the reference implementation; errors begin with `what`.
SafetensorsContents parse_safetensors(std::span<const std::byte> file, std::string_view what);

/// One memory-mapped .safetensors file. Entries are valid as long as this object or what it was
/// moved into.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return contents_.names; }
  const SafetensorsMetadata& metadata() const { return contents_.metadata; }
  bool contains(std::string_view name) const { return contents_.tensors.contains(name); }
  /// Throws Error when there is no such tensor.
  const TensorEntry& entry(std::string_view name) const;
  /// Reads a tensor's bytes from the `first` on, as MappedFile::read does.
  void read(std::string_view name, std::uint64_t first, std::span<std::byte> into) const;

 private:
  SafetensorsFile(std::filesystem::path path, MappedFile mapping);

  std::filesystem::path path_;
  MappedFile mapping_;
  SafetensorsContents contents_;
};

/// A checkpoint of one or more files, as one set of names.
class SafetensorsModel {
 public:
  /// `path` is a .safetensors file, a .safetensors.index.json, or a folder with one of the two
  /// named as by diffusers ("diffusion_pytorch_model") or transformers ("model").
  static SafetensorsModel open(const std::filesystem::path& path);
  /// The same with the file's name in a folder given.
  static SafetensorsModel open(const std::filesystem::path& path, std::string_view stem);

  /// Shard by shard in the order of the shards' names, each in the order of its bytes.
  const std::vector<std::string>& names() const { return names_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  bool contains(std::string_view name) const { return file_of_.contains(name); }
  /// These throw Error when there is no such tensor.
  const TensorEntry& entry(std::string_view name) const;
  const SafetensorsFile& file_with(std::string_view name) const;

 private:
  static SafetensorsModel open(const std::filesystem::path& path,
                               std::span<const std::string_view> stems);
  static SafetensorsModel open_index(const std::filesystem::path& index);
  void add(SafetensorsFile file);

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> names_;
  std::map<std::string, std::size_t, std::less<>> file_of_;  // tensor -> index into files_
};

/// One tensor to be written.
struct NamedTensor {
  std::string name;
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes one file, atomically. The bytes are those of the reference implementation: tensors by
/// falling dtype, then by name, so that each is aligned to its element.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata = {});

/// Writes `<stem>.safetensors` when the tensors' bytes fit in `max_shard_bytes`; otherwise
/// `<stem>-00001-of-0000N.safetensors` and so on, in the order given, then
/// `<stem>.safetensors.index.json`. A tensor larger than a shard has one of its own. Files get
/// their names only after all were written; none is removed, so that a folder with a checkpoint of
/// the other form is refused. Returns what was written.
std::vector<std::filesystem::path> write_safetensors_sharded(
    const std::filesystem::path& folder, std::string_view stem,
    std::span<const NamedTensor> tensors, std::uint64_t max_shard_bytes,
    const SafetensorsMetadata& metadata = {});

/// The same, but the files wait in `files` to be committed, with others that belong to them.
std::vector<std::filesystem::path> stage_safetensors_sharded(const std::filesystem::path& folder,
                                                             std::string_view stem,
                                                             std::span<const NamedTensor> tensors,
                                                             std::uint64_t max_shard_bytes,
                                                             const SafetensorsMetadata& metadata,
                                                             FileSet& files);

}  // namespace rtlynx
