// SPDX-License-Identifier: Apache-2.0
#include "pipeline/prompt_cache.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/word_hash.h"
#include "io/safetensors.h"
#include "io/terminal.h"
#include "io/text.h"
#include "models/tensor_bytes.h"
#include "rtlynx/version.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBeginning = "prompt-";
constexpr std::string_view kEnding = ".safetensors";
// What a writer that was killed leaves is nobody's after this.
constexpr std::chrono::hours kLongestWrite{1};

struct CachedFile {
  fs::path path;
  fs::file_time_type used;
  std::uint64_t bytes = 0;
};

bool is_ours(const std::string& name) {
  constexpr std::size_t kDigits = 16;
  return name.size() == kBeginning.size() + kDigits + kEnding.size() &&
         name.starts_with(kBeginning) && name.ends_with(kEnding);
}

bool is_forsaken(const std::string& name, fs::file_time_type written) {
  return name.starts_with(".rtlynx-") && name.ends_with(".tmp") &&
         written < fs::file_time_type::clock::now() - kLongestWrite;
}

/// The cache's own files: others may lie beside them. Other processes may remove files meanwhile:
/// what cannot be asked is left out.
std::vector<CachedFile> files_in(const fs::path& folder) {
  std::vector<CachedFile> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (!fs::is_regular_file(at->symlink_status(gone))) continue;
    const std::string name = at->path().filename().string();
    const fs::file_time_type used = at->last_write_time(gone);
    const std::uint64_t bytes = gone ? 0 : at->file_size(gone);
    if (gone) continue;
    if (is_ours(name)) files.push_back({at->path(), used, bytes});
    if (is_forsaken(name, used)) fs::remove(at->path(), gone);
  }
  return files;
}

/// Of names, types, shapes and bytes: damage that leaves a readable file shows.
std::string digits_of(const PromptFeatures& features) {
  WordHash hash;
  const auto add = [&](const std::string& text) { hash.add(std::as_bytes(std::span(text))); };
  for (const auto& [name, value] : features) {
    const torch::Tensor whole = value.cpu().contiguous();
    add(name);
    add(c10::toString(whole.scalar_type()));
    add(c10::str(whole.sizes()));
    hash.add(std::span(static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()));
  }
  return hash.digits();
}

}  // namespace

std::string features_key(const std::string& encoding, const torch::TensorOptions& options,
                         const std::string& prompt) {
  return "rtlynx " + std::string(version()) + " " + toString(options.dtype().toScalarType()) + " " +
         c10::DeviceTypeName(options.device().type(), true) + " " + encoding + "\n" + prompt;
}

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
  return folder_ / (std::string(kBeginning) + hash.digits() + std::string(kEnding));
}

std::optional<PromptFeatures> PromptCache::find(const std::string& key) const {
  const fs::path path = file_of(key);
  std::error_code ignored;
  // A link was not made here.
  if (!fs::is_regular_file(fs::symlink_status(path, ignored))) return std::nullopt;
  try {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const auto says = [&](const char* name, const std::string& value) {
      const auto found = file.metadata().find(name);
      return found != file.metadata().end() && found->second == value;
    };
    if (!says("key", key)) return std::nullopt;
    PromptFeatures features;
    for (const std::string& name : file.names()) {
      features[name] = copy_to_tensor(file.entry(name), printable(path.string()));
    }
    if (!says("hash", digits_of(features))) return std::nullopt;
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
    return features;
  } catch (const Error&) {
    return std::nullopt;  // broken, or removed meanwhile
  }
}

void PromptCache::keep(const std::string& key, const PromptFeatures& features) const {
  const fs::path path = file_of(key);
  try {
    // A link would have its target written over.
    std::error_code ignored;
    if (fs::is_symlink(fs::symlink_status(path, ignored))) fs::remove(path, ignored);
    const TensorBytes bytes({features.begin(), features.end()});
    write_safetensors(path, bytes.entries(), {{"key", key}, {"hash", digits_of(features)}});
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
