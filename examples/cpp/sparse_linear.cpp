// SPDX-License-Identifier: Apache-2.0
// Packs a small activation to 2:4, runs a linear layer on it and compares with the dense one.
#include <rtlynx/error.h>
#include <rtlynx/pack24.h>
#include <rtlynx/product24.h>
#include <rtlynx/version.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace {

constexpr std::int64_t kTokens = 4;     // M
constexpr std::int64_t kChannels = 64;  // K
constexpr std::int64_t kOutputs = 32;   // N

double energy(const std::vector<float>& values) {
  double sum = 0.0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

std::vector<float> dense_linear(const std::vector<float>& x, const std::vector<float>& weight) {
  std::vector<float> y(kTokens * kOutputs);
  for (std::int64_t m = 0; m < kTokens; ++m) {
    for (std::int64_t n = 0; n < kOutputs; ++n) {
      for (std::int64_t k = 0; k < kChannels; ++k) {
        y[m * kOutputs + n] += x[m * kChannels + k] * weight[n * kChannels + k];
      }
    }
  }
  return y;
}

// ||y - reference|| / ||reference||
double relative_error(const std::vector<float>& y, const std::vector<float>& reference) {
  std::vector<float> difference(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) difference[i] = y[i] - reference[i];
  return std::sqrt(energy(difference) / energy(reference));
}

void run() {
  using rtlynx::contiguous;
  using rtlynx::DType;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> x(kTokens * kChannels), weight(kOutputs * kChannels);
  for (float& value : x) value = std::pow(normal(random), 3.0f);  // most channels near zero
  for (float& value : weight) value = normal(random);

  std::vector<float> values(kTokens * kChannels / 2), scale(kTokens), y(kTokens * kOutputs);
  std::vector<std::uint16_t> metadata(kTokens * kChannels / 16);
  const rtlynx::Packed24 packed{
      .values = contiguous(values.data(), DType::f32, kTokens, kChannels / 2),
      .metadata = metadata.data(),
      .scale = scale.data()};
  rtlynx::pack24({.x = contiguous(x.data(), DType::f32, kTokens, kChannels)}, packed);
  std::printf("rtlynx %s\n", rtlynx::version());
  std::printf("kept energy %.4f\n", energy(values) / energy(x));
  for (const float s : scale) std::printf("s %.4f\n", s);

  const rtlynx::Product24 linear{
      .weight = contiguous(weight.data(), DType::f32, kOutputs, kChannels),
      .y = contiguous(y.data(), DType::f32, kTokens, kOutputs)};
  rtlynx::product24(packed, {&linear, 1});
  std::printf("error against dense %.4f\n", relative_error(y, dense_linear(x, weight)));
}

}  // namespace

int main() {
  try {
    run();
  } catch (const rtlynx::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
