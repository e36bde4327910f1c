// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>

namespace rtlynx {

/// Takes in bytes a word at a time: 24 GB of weights in seconds. The step is that of splitmix64.
class WordHash {
 public:
  explicit WordHash(std::uint64_t state = 0) : state_(state) {}

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

  std::uint64_t state() const { return state_; }
  std::string digits() const {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(state_));
    return text.data();
  }

 private:
  std::uint64_t state_;
};

}  // namespace rtlynx
