// SPDX-License-Identifier: Apache-2.0
#include "models/revision.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>

#include "io/file.h"

namespace rtlynx {
namespace {

/// Takes in bytes a word at a time: 24 GB of weights in seconds. The step is that of splitmix64.
class WordHash {
 public:
  void add(std::uint64_t word) {
    std::uint64_t z = (state_ ^ word) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    state_ = z ^ (z >> 27);
  }
  void add(std::span<const std::byte> bytes) {
    add(bytes.size());
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, std::min(sizeof(word), bytes.size() - at));
      add(word);
    }
  }
  std::string digits() const {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(state_));
    return text.data();
  }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace

std::string weights_revision(const torch::nn::Module& model) {
  WordHash hash;
  for (const auto& item : model.named_parameters()) {
    const torch::Tensor values =
        item.value().detach().to(torch::kCPU, torch::kBFloat16).contiguous();
    hash.add(std::as_bytes(std::span(item.key())));
    hash.add(std::as_bytes(std::span(values.sizes().data(), values.sizes().size())));
    hash.add({static_cast<const std::byte*>(values.const_data_ptr()),
              static_cast<std::size_t>(values.nbytes())});
  }
  return hash.digits();
}

std::string file_revision(const std::filesystem::path& path) {
  const MappedFile file(path);
  WordHash hash;
  hash.add(file.bytes());
  return hash.digits();
}

}  // namespace rtlynx
