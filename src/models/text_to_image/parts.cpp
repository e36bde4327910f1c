// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/parts.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/word_hash.h"
#include "io/file.h"
#include "models/device_memory.h"
#include "models/plain_layers.h"
#include "models/tensor_stream.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

// The largest tokenizer.json is about half of it.
constexpr std::uintmax_t kSmallFile = std::uintmax_t{32} << 20;
// Read of both ends of a larger one: times alone are alike where an archive was unpacked.
constexpr std::size_t kSample = std::size_t{1} << 20;

void add_text(WordHash& hash, const std::string& text) { hash.add(std::as_bytes(std::span(text))); }

void add_file(WordHash& hash, const fs::path& file) {
  add_text(hash, file.filename().string());
  const std::uintmax_t bytes = fs::file_size(file);
  hash.add(bytes);
  if (bytes == 0) return;
  const MappedFile mapped(file);
  if (bytes <= kSmallFile && file.extension() != ".safetensors") {
    hash.add(mapped.bytes());
  } else {
    const std::size_t part = std::min(mapped.bytes().size(), kSample);
    hash.add(mapped.bytes().first(part));
    hash.add(mapped.bytes().last(part));
    hash.add(static_cast<std::uint64_t>(fs::last_write_time(file).time_since_epoch().count()));
  }
}

/// Of the tables of tokens in `module`.
std::int64_t table_values(const torch::nn::Module& module) {
  std::int64_t values = 0;
  for (const auto& part : module.modules()) {
    if (const auto* table = part->as<TokenTable>()) values += table->weight.numel();
  }
  return values;
}

}  // namespace

void require_part_memory(const fs::path& part, const std::vector<const torch::nn::Module*>& modules,
                         const torch::TensorOptions& options) {
  std::int64_t values = 0, in_tables = 0;
  for (const torch::nn::Module* const module : modules) {
    for (const torch::Tensor& parameter : module->parameters()) values += parameter.numel();
    in_tables += table_values(*module);
  }
  const auto bytes = [&](std::int64_t count) {
    return TensorStream::kBufferBytes +
           static_cast<std::uint64_t>(count) * options.dtype().itemsize();
  };
  const std::string what = "load " + printable(part.string());
  if (options.device().is_cpu()) return require_memory(what, bytes(values), torch::kCPU);
  require_memory(what, bytes(values - in_tables), options.device());
  require_memory(what, bytes(in_tables), torch::kCPU);
}

std::string parts_revision(const fs::path& folder, const std::vector<std::string>& parts) {
  WordHash hash;
  for (const std::string& part : parts) {
    add_text(hash, part);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder / part)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add_file(hash, file);
  }
  return hash.digits();
}

void PartsFit::equal(const char* what, std::int64_t required, std::int64_t arrived) const {
  if (required == arrived) return;
  fail(where_, std::string(what) + " " + std::to_string(required), std::to_string(arrived));
}

void PartsFit::at_least(const char* what, std::int64_t required, const char* reason,
                        std::int64_t arrived) const {
  if (arrived >= required) return;
  fail(where_, std::string(what) + " to be at least " + std::to_string(required) + ", " + reason,
       std::to_string(arrived));
}

}  // namespace rtlynx
