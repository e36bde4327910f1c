// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "io/file_kind.h"
#include "io/json.h"
#include "io/safetensors_format.h"
#include "io/text.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using safetensors_format::check_size;
using safetensors_format::kMaxHeaderBytes;
using safetensors_format::kMetadataKey;
using safetensors_format::kSizeBytes;
using safetensors_format::tensor_place;

struct DtypeTraits {
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<DtypeTraits, 15> kDtypes = {{{"BOOL", 1},
                                                  {"U8", 1},
                                                  {"I8", 1},
                                                  {"F8_E5M2", 1},
                                                  {"F8_E4M3", 1},
                                                  {"I16", 2},
                                                  {"U16", 2},
                                                  {"F16", 2},
                                                  {"BF16", 2},
                                                  {"I32", 4},
                                                  {"U32", 4},
                                                  {"F32", 4},
                                                  {"F64", 8},
                                                  {"I64", 8},
                                                  {"U64", 8}}};
static_assert(kDtypes.size() == static_cast<std::size_t>(TensorDtype::kU64) + 1);

const DtypeTraits& traits(TensorDtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)]; }

/// Where the bytes of a tensor lie in the data.
struct Located {
  std::string name;
  std::uint64_t begin;
  std::uint64_t end;
};

/// Says what the file is, where that is known, in place of what its first bytes would mean.
[[noreturn]] void refuse_header(std::span<const std::byte> file, std::string_view what,
                                std::string_view required, std::string_view arrived) {
  if (const auto foreign = describe_foreign_file(file)) fail(what, "a safetensors file", *foreign);
  fail(what, required, arrived);
}

std::string_view header_text(std::span<const std::byte> file, std::string_view what) {
  if (file.size() < kSizeBytes) {
    refuse_header(file, what, fmt::format("at least {} bytes for the header size", kSizeBytes),
                  fmt::format("a file of {}", file.size()));
  }
  std::uint64_t size = 0;
  for (std::size_t i = kSizeBytes; i-- > 0;) size = size << 8 | std::to_integer<unsigned>(file[i]);
  if (size > kMaxHeaderBytes) {
    refuse_header(file, what, fmt::format("a header of at most {} bytes", kMaxHeaderBytes),
                  fmt::format("a header size of {}", size));
  }
  const auto rest = file.subspan(kSizeBytes);
  if (size > rest.size()) {
    refuse_header(file, what, fmt::format("{} bytes of header", size),
                  fmt::format("{} bytes up to the end of the file", rest.size()));
  }
  const std::string_view text = as_text(rest.first(static_cast<std::size_t>(size)));
  if (!text.starts_with('{')) {
    refuse_header(file, what, "a header that begins with {", in_quotes(text.substr(0, 16)));
  }
  return text;
}

SafetensorsMetadata parse_metadata(const json& value, std::string_view what) {
  const std::string place = fmt::format("{}, {}", what, kMetadataKey);
  if (!value.is_object()) fail(place, "an object of strings", printable_json(value));
  SafetensorsMetadata metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      fail(place, fmt::format("a string at {}", in_quotes(key)), printable_json(text));
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

const json& member(const json& tensor, const char* key, std::string_view place) {
  const auto found = tensor.find(key);
  if (found == tensor.end()) fail(place, fmt::format("\"{}\"", key), "none");
  return *found;
}

TensorDtype parse_dtype(const json& value, std::string_view place) {
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (value.is_string() && value.get_ref<const std::string&>() == kDtypes[i].name) {
      return static_cast<TensorDtype>(i);
    }
  }
  std::vector<std::string_view> names;
  for (const DtypeTraits& dtype : kDtypes) names.push_back(dtype.name);
  fail(place, fmt::format("a dtype of {}", fmt::join(names, ", ")), printable_json(value));
}

std::vector<std::int64_t> parse_shape(const json& value, std::string_view place) {
  constexpr std::uint64_t kMaxDimension = std::numeric_limits<std::int64_t>::max();
  if (!value.is_array()) fail(place, "a list as shape", printable_json(value));
  std::vector<std::int64_t> shape;
  shape.reserve(value.size());
  for (const json& dimension : value) {
    if (!dimension.is_number_unsigned() || dimension.get<std::uint64_t>() > kMaxDimension) {
      fail(place, fmt::format("integers from 0 to {} as shape", kMaxDimension),
           printable_json(value));
    }
    shape.push_back(dimension.get<std::int64_t>());
  }
  return shape;
}

std::span<const std::byte> parse_offsets(const json& value, std::span<const std::byte> data,
                                         std::string_view place) {
  const auto is_offset = [](const json& item) { return item.is_number_unsigned(); };
  if (!value.is_array() || value.size() != 2 || !std::ranges::all_of(value, is_offset)) {
    fail(place, "two unsigned integers as data_offsets", printable_json(value));
  }
  const auto begin = value[0].get<std::uint64_t>();
  const auto end = value[1].get<std::uint64_t>();
  if (begin > end) fail(place, "data_offsets with begin <= end", printable_json(value));
  if (end > data.size()) {
    fail(place, fmt::format("data_offsets within the {} bytes of data", data.size()),
         printable_json(value));
  }
  return data.subspan(begin, end - begin);
}

TensorEntry parse_entry(const json& value, std::span<const std::byte> data,
                        std::string_view place) {
  if (!value.is_object()) fail(place, "an object", printable_json(value));
  TensorEntry entry;
  entry.dtype = parse_dtype(member(value, "dtype", place), place);
  entry.shape = parse_shape(member(value, "shape", place), place);
  entry.bytes = parse_offsets(member(value, "data_offsets", place), data, place);
  check_size(entry.dtype, entry.shape, entry.bytes.size(), place);
  return entry;
}

/// The tensors must lie back to back from the first byte of data to the last: bytes that belong to
/// none, or to two, mean a damaged file or something smuggled in.
void check_coverage(std::span<const Located> tensors, std::uint64_t data_bytes,
                    std::string_view what) {
  std::uint64_t covered = 0;
  for (const Located& tensor : tensors) {
    if (tensor.begin != covered) {
      fail(tensor_place(what, tensor.name),
           fmt::format("data from offset {}, where the data before it ends", covered),
           fmt::format("{} from offset {}", tensor.begin < covered ? "an overlap" : "a hole",
                       tensor.begin));
    }
    covered = tensor.end;
  }
  if (covered == data_bytes) return;
  const std::string place =
      tensors.empty() ? std::string(what) : tensor_place(what, tensors.back().name);
  fail(place, fmt::format("the last tensor to end the file at offset {}", data_bytes),
       fmt::format("its end at offset {}", covered));
}

}  // namespace

std::string_view dtype_name(TensorDtype dtype) { return traits(dtype).name; }

std::size_t dtype_bytes(TensorDtype dtype) { return traits(dtype).bytes; }

std::optional<std::uint64_t> tensor_bytes(TensorDtype dtype, std::span<const std::int64_t> shape) {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  std::uint64_t bytes = dtype_bytes(dtype);
  bool is_empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      is_empty = true;
    } else if (bytes > kLargest / static_cast<std::uint64_t>(dimension)) {
      return std::nullopt;
    } else {
      bytes *= static_cast<std::uint64_t>(dimension);
    }
  }
  return is_empty ? 0 : bytes;
}

void safetensors_format::check_size(TensorDtype dtype, std::span<const std::int64_t> shape,
                                    std::size_t bytes, std::string_view place) {
  const auto needed = tensor_bytes(dtype, shape);
  if (needed == bytes) return;
  fail(place,
       fmt::format("{} bytes for {} [{}]", needed ? std::to_string(*needed) : "fewer than 2^63",
                   dtype_name(dtype), fmt::join(shape, ",")),
       fmt::format("{}", bytes));
}

SafetensorsContents parse_safetensors(std::span<const std::byte> file, std::string_view what) {
  constexpr int kHeaderDepth = 8;  // three are needed; unknown members of a tensor may have some
  const std::string_view text = header_text(file, what);
  const auto data = file.subspan(kSizeBytes + text.size());
  const json header = parse_json(text, fmt::format("{}, header", what), kHeaderDepth);

  SafetensorsContents contents;
  std::vector<Located> located;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      contents.metadata = parse_metadata(value, what);
      continue;
    }
    TensorEntry entry = parse_entry(value, data, tensor_place(what, name));
    const auto begin = static_cast<std::uint64_t>(entry.bytes.data() - data.data());
    located.push_back({name, begin, begin + entry.bytes.size()});
    contents.tensors.emplace(name, std::move(entry));
  }

  std::ranges::sort(located, {}, [](const Located& tensor) {
    return std::tie(tensor.begin, tensor.end, tensor.name);
  });
  check_coverage(located, data.size(), what);
  for (Located& tensor : located) contents.names.push_back(std::move(tensor.name));
  return contents;
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path, MappedFile mapping)
    : path_(std::move(path)),
      mapping_(std::move(mapping)),
      contents_(parse_safetensors(mapping_.bytes(), printable(path_.string()))) {}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return SafetensorsFile(path, MappedFile(path));
}

const TensorEntry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = contents_.tensors.find(name);
  if (found == contents_.tensors.end()) {
    fail(printable(path_.string()), "tensor " + in_quotes(name),
         fmt::format("{} tensors, none of that name", contents_.tensors.size()));
  }
  return found->second;
}

void SafetensorsFile::read(std::string_view name, std::uint64_t first,
                           std::span<std::byte> into) const {
  const auto bytes = entry(name).bytes;
  if (first > bytes.size() || into.size() > bytes.size() - first) {
    fail(fmt::format("read {}", tensor_place(printable(path_.string()), name)),
         fmt::format("bytes within its {}", bytes.size()),
         fmt::format("{} from {} on", into.size(), first));
  }
  if (into.empty()) return;
  const auto begin = static_cast<std::uint64_t>(bytes.data() - mapping_.bytes().data());
  mapping_.read(begin + first, into);
}

}  // namespace rtlynx
