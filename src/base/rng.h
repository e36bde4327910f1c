// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>

namespace rtlynx {

/// A well-mixed seed for item `index` of a run (the finaliser of splitmix64).
constexpr std::uint64_t mixed_seed(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0x9E3779B97F4A7C15ULL + index + 1;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// Random numbers that are the same for a seed on every platform: the engine is fixed by the
/// standard, and the distributions, which the standard leaves open, are these.
class Rng {
 public:
  explicit Rng(std::uint64_t seed) : engine_(seed) {}

  /// Uniform in [0, n), n > 0.
  int below(int n) { return static_cast<int>((high_bits() * static_cast<std::uint64_t>(n)) >> 32); }

  /// Uniform in [low, high], both included.
  int between(int low, int high) { return low + below(high - low + 1); }

  /// Uniform in [0, 1), a multiple of 2^-24, hence exact in a float.
  float uniform() { return static_cast<float>(engine_() >> 40) * 0x1p-24f; }

  bool chance(float probability) { return uniform() < probability; }

  /// The state, to be saved and restored through the stream operators.
  std::mt19937_64& engine() { return engine_; }

 private:
  std::uint64_t high_bits() { return engine_() >> 32; }

  std::mt19937_64 engine_;
};

}  // namespace rtlynx
