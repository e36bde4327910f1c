// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <random>

#include "base/half.h"
#include "benchmark/checks.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"

namespace rtlynx::benchmark {
namespace {

// Whole tiles in neither direction.
constexpr std::int64_t kTokens = 83, kChannels = 208;
constexpr int kLowRank = 16;
constexpr double kScaleTolerance = 1e-5;

std::size_t count(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

// Quarters, so that many magnitudes are equal.
template <typename T>
std::vector<T> drawn(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<T> values(size);
  for (T& value : values) value = from_float<T>(std::round(normal(random) * 4) / 4);
  return values;
}

template <typename T>
DeviceBuffer on_device(const std::vector<T>& values) {
  DeviceBuffer buffer(values.size() * sizeof(T));
  check_cuda(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice),
             "copy to the device");
  return buffer;
}

template <typename T>
std::vector<T> on_host(const DeviceBuffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  check_cuda(cudaMemcpy(values.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost),
             "copy to the host");
  return values;
}

struct Specified {
  std::vector<std::byte> operand;
  std::vector<float> scale;
};

template <typename T>
Specified specified(const std::vector<T>& x, DType dtype) {
  std::vector<T> values(count(kTokens, kChannels / 2));
  std::vector<std::uint16_t> metadata(count(kTokens, kChannels / 16));
  Specified result{
      std::vector<std::byte>(static_cast<std::size_t>(operand24_bytes(kTokens, kChannels))),
      std::vector<float>(static_cast<std::size_t>(kTokens))};
  const MatrixView kept = contiguous(values.data(), dtype, kTokens, kChannels / 2);
  rtlynx::pack24(contiguous(x.data(), dtype, kTokens, kChannels),
                 {.values = kept, .metadata = metadata.data(), .scale = result.scale.data()});
  to_operand24(kept, metadata.data(), result.operand.data());
  return result;
}

// ||low - exact|| / ||exact||, exact = x down^T / scale in fp64.
template <typename T>
double low_rank_error(const std::vector<T>& x, const std::vector<T>& down,
                      const std::vector<float>& scale, const std::vector<T>& low) {
  double difference = 0, norm = 0;
  for (std::size_t m = 0; m < static_cast<std::size_t>(kTokens); ++m) {
    for (std::size_t r = 0; r < kLowRank; ++r) {
      double exact = 0;
      for (std::size_t k = 0; k < static_cast<std::size_t>(kChannels); ++k) {
        exact += static_cast<double>(to_float(x[m * kChannels + k])) *
                 static_cast<double>(to_float(down[r * kChannels + k]));
      }
      exact /= static_cast<double>(scale[m]);
      const double error = static_cast<double>(to_float(low[m * kLowRank + r])) - exact;
      difference += error * error;
      norm += exact * exact;
    }
  }
  return std::sqrt(difference / norm);
}

template <typename T>
void check_small_pack_of(DType dtype, std::uint64_t seed, cudaStream_t stream) {
  const std::vector<T> x = drawn<T>(count(kTokens, kChannels), seed);
  const std::vector<T> down = drawn<T>(count(kLowRank, kChannels), seed + 1);
  const Specified expected = specified(x, dtype);

  const DeviceBuffer device_x = on_device(x), device_down = on_device(down);
  const DeviceBuffer operand(expected.operand.size());
  const DeviceBuffer scale(expected.scale.size() * sizeof(float));
  const DeviceBuffer low(count(kTokens, kLowRank) * sizeof(T));
  const DeviceBuffer workspace(gpu::pack24_workspace_bytes(kLowRank, gpu::current_device()));
  const gpu::Pack24 problem{
      .x = contiguous(device_x.as<const void>(), dtype, kTokens, kChannels),
      .operand = operand.data(),
      .scale = scale.as<float>(),
      .down = contiguous(device_down.as<const void>(), dtype, kLowRank, kChannels),
      .low = low.data(),
      .workspace = workspace.data(),
      .workspace_bytes = workspace.bytes()};
  gpu::pack24(problem, stream);
  check_cuda(cudaStreamSynchronize(stream), "pack24");

  const std::string where = fmt::format("pack of {} x {}", kTokens, kChannels);
  if (on_host<std::byte>(operand) != expected.operand) {
    throw WrongResult(where + ": required the CPU's operand bit for bit, got other bits");
  }
  const std::vector<float> scales = on_host<float>(scale);
  for (std::size_t m = 0; m < scales.size(); ++m) {
    if (!(std::abs(scales[m] / expected.scale[m] - 1.0) <= kScaleTolerance)) {
      throw WrongResult(fmt::format("{}: required scale {} in row {}, got {}", where,
                                    expected.scale[m], m, scales[m]));
    }
  }
  // One rounding is at most half of this.
  const double allowed = dtype == DType::f16 ? 0x1p-10 : 0x1p-7;
  const double error = low_rank_error(x, down, expected.scale, on_host<T>(low));
  if (!(error <= allowed)) {
    throw WrongResult(
        fmt::format("{}: required a relative error of at most {:.2e} in the low rank, got {:.2e}",
                    where, allowed, error));
  }
}

}  // namespace

void check_small_pack(DType dtype, std::uint64_t seed, cudaStream_t stream) {
  if (dtype == DType::f16) {
    check_small_pack_of<Half>(dtype, seed, stream);
  } else {
    check_small_pack_of<BFloat16>(dtype, seed, stream);
  }
}

}  // namespace rtlynx::benchmark
