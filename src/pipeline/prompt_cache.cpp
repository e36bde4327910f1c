// SPDX-License-Identifier: Apache-2.0
#include "pipeline/prompt_cache.h"

#include <algorithm>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/word_hash.h"
#include "io/safetensors.h"
#include "io/terminal.h"
#include "io/text.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEnding = ".safetensors";

struct CachedFile {
  fs::path path;
  fs::file_time_type used;
  std::uint64_t bytes = 0;
};

/// Other processes may remove files meanwhile: what cannot be asked is left out.
std::vector<CachedFile> files_in(const fs::path& folder) {
  std::vector<CachedFile> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != kEnding) continue;
    std::error_code gone;
    const fs::file_time_type used = at->last_write_time(gone);
    const std::uint64_t bytes = gone ? 0 : at->file_size(gone);
    if (!gone) files.push_back({at->path(), used, bytes});
  }
  return files;
}

}  // namespace

PromptCache::PromptCache(const fs::path& folder, std::uint64_t max_bytes)
    : folder_(folder), max_bytes_(max_bytes) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) fail(printable(folder_.string()), "a folder for prompts", error.message());
  check_writable(file_of(""));
}

fs::path PromptCache::file_of(const std::string& key) const {
  WordHash hash;
  hash.add(std::as_bytes(std::span(key)));
  return folder_ / (hash.digits() + kEnding);
}

std::optional<PromptFeatures> PromptCache::find(const std::string& key) const {
  const fs::path path = file_of(key);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  try {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const auto own = file.metadata().find("key");
    if (own == file.metadata().end() || own->second != key) return std::nullopt;
    PromptFeatures features;
    for (const std::string& name : file.names()) {
      features[name] = copy_to_tensor(file.entry(name), printable(path.string()));
    }
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
    return features;
  } catch (const Error&) {
    return std::nullopt;  // broken, or removed meanwhile
  }
}

void PromptCache::keep(const std::string& key, const PromptFeatures& features) const {
  try {
    const TensorBytes bytes({features.begin(), features.end()});
    write_safetensors(file_of(key), bytes.entries(), {{"key", key}});
  } catch (const Error& error) {
    terminal::say(std::string("a prompt was not cached: ") + error.what());
  }
  remove_oldest();
}

void PromptCache::remove_oldest() const {
  std::vector<CachedFile> files = files_in(folder_);
  std::sort(files.begin(), files.end(),
            [](const CachedFile& a, const CachedFile& b) { return a.used > b.used; });
  std::uint64_t bytes = 0;
  for (const CachedFile& file : files) {
    bytes += file.bytes;
    std::error_code gone;
    if (bytes > max_bytes_) fs::remove(file.path, gone);
  }
}

}  // namespace rtlynx
