// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/safetensors_format.h"
#include "io/text.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;
using safetensors_format::check_size;
using safetensors_format::kAlignment;
using safetensors_format::kMaxHeaderBytes;
using safetensors_format::kMetadataKey;
using safetensors_format::kSizeBytes;
using safetensors_format::tensor_place;

using Shard = std::vector<const NamedTensor*>;

void check_tensors(std::span<const NamedTensor> tensors, std::string_view what) {
  std::set<std::string_view> names;
  for (const NamedTensor& tensor : tensors) {
    const std::string place = tensor_place(what, tensor.name);
    require(is_utf8(tensor.name), place, "a name in UTF-8", "other bytes");
    require(tensor.name != kMetadataKey, place, "another name", "the key of the metadata");
    require(names.insert(tensor.name).second, place, "each name once", "it twice");
    check_size(tensor.dtype, tensor.shape, tensor.bytes.size(), place);
  }
}

void check_metadata(const SafetensorsMetadata& metadata, std::string_view what) {
  for (const auto& [key, text] : metadata) {
    if (is_utf8(key) && is_utf8(text)) continue;
    fail(fmt::format("{}, {} {}", what, kMetadataKey, in_quotes(key)), "UTF-8", "other bytes");
  }
}

Shard in_file_order(Shard tensors) {
  std::ranges::sort(tensors, [](const NamedTensor* a, const NamedTensor* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });
  return tensors;
}

/// The header of `tensors` laid back to back, with its size before it and its padding.
std::string make_header(const Shard& tensors, const SafetensorsMetadata& metadata,
                        std::string_view what) {
  const auto quote = [](std::string_view name) { return nlohmann::json(name).dump(); };
  std::string text = "{";
  if (!metadata.empty()) {
    text += fmt::format("{}:{},", quote(kMetadataKey), nlohmann::json(metadata).dump());
  }
  std::uint64_t offset = 0;
  for (const NamedTensor* tensor : tensors) {
    const std::uint64_t end = offset + tensor->bytes.size();
    text += fmt::format(R"({}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}},)",
                        quote(tensor->name), dtype_name(tensor->dtype),
                        nlohmann::json(tensor->shape).dump(), offset, end);
    offset = end;
  }
  if (text.ends_with(',')) text.pop_back();
  text += '}';
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  if (text.size() > kMaxHeaderBytes) {
    fail(what, fmt::format("a header of at most {} bytes", kMaxHeaderBytes),
         fmt::format("{} bytes for {} tensors", text.size(), tensors.size()));
  }
  std::string size(kSizeBytes, '\0');
  for (std::size_t i = 0; i < kSizeBytes; ++i) size[i] = char(text.size() >> (8 * i) & 0xff);
  return size + text;
}

AtomicFile write_shard(const fs::path& path, Shard tensors, const SafetensorsMetadata& metadata) {
  tensors = in_file_order(std::move(tensors));
  const std::string header = make_header(tensors, metadata, printable(path.string()));
  AtomicFile file(path);
  file.write(header);
  for (const NamedTensor* tensor : tensors) file.write(tensor->bytes);
  return file;
}

std::vector<Shard> split(std::span<const NamedTensor> tensors, std::uint64_t max_shard_bytes) {
  std::vector<Shard> shards(1);
  std::uint64_t filled = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor.bytes.size();
    const bool fits = filled <= max_shard_bytes && bytes <= max_shard_bytes - filled;
    if (!fits && !shards.back().empty()) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(&tensor);
    filled += bytes;
  }
  return shards;
}

void refuse_other_form(const fs::path& other) {
  std::error_code ignored;
  if (!fs::exists(other, ignored)) return;
  fail(fmt::format("write {}", printable(other.parent_path().string())),
       "a folder without a checkpoint of the other form, which would make it ambiguous",
       printable(other.filename().string()));
}

}  // namespace

void write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata) {
  const std::string what = printable(path.string());
  check_tensors(tensors, what);
  check_metadata(metadata, what);
  Shard all;
  for (const NamedTensor& tensor : tensors) all.push_back(&tensor);
  write_shard(path, std::move(all), metadata).commit();
}

std::vector<fs::path> write_safetensors_sharded(const fs::path& folder, std::string_view stem,
                                                std::span<const NamedTensor> tensors,
                                                std::uint64_t max_shard_bytes,
                                                const SafetensorsMetadata& metadata) {
  FileSet files;
  const std::vector<fs::path> paths =
      stage_safetensors_sharded(folder, stem, tensors, max_shard_bytes, metadata, files);
  files.commit();
  return paths;
}

std::vector<fs::path> stage_safetensors_sharded(const fs::path& folder, std::string_view stem,
                                                std::span<const NamedTensor> tensors,
                                                std::uint64_t max_shard_bytes,
                                                const SafetensorsMetadata& metadata,
                                                FileSet& files) {
  require(is_plain_file_name(stem), printable(folder.string()), "a file name as stem",
          in_quotes(stem));
  const fs::path single = folder / fmt::format("{}.safetensors", stem);
  const fs::path index = folder / fmt::format("{}.safetensors.index.json", stem);
  const std::string what = printable(single.string());
  check_tensors(tensors, what);
  check_metadata(metadata, what);

  const std::vector<Shard> shards = split(tensors, max_shard_bytes);
  refuse_other_form(shards.size() == 1 ? index : single);
  if (shards.size() == 1) {
    files.add(write_shard(single, shards.front(), metadata));
    return {single};
  }

  std::vector<fs::path> paths;
  std::uint64_t total_bytes = 0;
  nlohmann::json weight_map = nlohmann::json::object();
  for (const Shard& shard : shards) {
    const std::string name =
        fmt::format("{}-{:05}-of-{:05}.safetensors", stem, paths.size() + 1, shards.size());
    for (const NamedTensor* tensor : shard) {
      weight_map[tensor->name] = name;
      total_bytes += tensor->bytes.size();
    }
    paths.push_back(folder / name);
    files.add(write_shard(paths.back(), shard, metadata));
  }
  const nlohmann::json root = {{"metadata", {{"total_size", total_bytes}}},
                               {"weight_map", std::move(weight_map)}};
  paths.push_back(index);
  files.add(index, root.dump(2, ' ', /*ensure_ascii=*/true) + "\n");
  return paths;
}

}  // namespace rtlynx
