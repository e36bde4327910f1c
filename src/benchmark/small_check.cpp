// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <random>

#include "base/half.h"
#include "benchmark/checks.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/operand24.h"

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

template <typename T>
struct Packed {
  std::vector<std::byte> operand =
      std::vector<std::byte>(static_cast<std::size_t>(operand24_bytes(kTokens, kChannels)));
  std::vector<float> scale = std::vector<float>(static_cast<std::size_t>(kTokens));
  std::vector<T> low = std::vector<T>(count(kTokens, kLowRank));
};

template <typename T>
Packed<T> specified(const std::vector<T>& x, const std::vector<T>& down, DType dtype) {
  std::vector<T> values(count(kTokens, kChannels / 2));
  std::vector<std::uint16_t> metadata(count(kTokens, kChannels / 16));
  Packed<T> packed;
  const MatrixView kept = contiguous(values.data(), dtype, kTokens, kChannels / 2);
  const void *const x_data = x.data(), *const down_data = down.data();
  rtlynx::pack24({.x = contiguous(x_data, dtype, kTokens, kChannels),
                  .down = contiguous(down_data, dtype, kLowRank, kChannels)},
                 {.values = kept,
                  .metadata = metadata.data(),
                  .scale = packed.scale.data(),
                  .low = contiguous(packed.low.data(), dtype, kTokens, kLowRank)});
  to_operand24(kept, metadata.data(), packed.operand.data());
  return packed;
}

template <typename T>
Packed<T> computed(const std::vector<T>& x, const std::vector<T>& down, DType dtype,
                   cudaStream_t stream) {
  const DeviceBuffer device_x = on_device(x), device_down = on_device(down);
  const DeviceBuffer operand(static_cast<std::size_t>(operand24_bytes(kTokens, kChannels)));
  const DeviceBuffer scale(static_cast<std::size_t>(kTokens) * sizeof(float));
  const DeviceBuffer low(count(kTokens, kLowRank) * sizeof(T));
  const DeviceBuffer workspace(gpu::pack24_workspace_bytes(kLowRank, gpu::current_device()));
  gpu::pack24({.x = contiguous(device_x.as<const void>(), dtype, kTokens, kChannels),
               .down = contiguous(device_down.as<const void>(), dtype, kLowRank, kChannels)},
              {.dtype = dtype,
               .tokens = kTokens,
               .channels = kChannels,
               .operand = operand.data(),
               .scale = scale.as<float>(),
               .low = contiguous(low.data(), dtype, kTokens, kLowRank)},
              {workspace.data(), workspace.bytes()}, stream);
  check_cuda(cudaStreamSynchronize(stream), "pack24");
  return {on_host<std::byte>(operand), on_host<float>(scale), on_host<T>(low)};
}

// ||got - required|| / ||required||.
template <typename T>
double distance(const std::vector<T>& got, const std::vector<T>& required) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < required.size(); ++i) {
    const double exact = to_float(required[i]);
    difference += std::pow(to_float(got[i]) - exact, 2);
    norm += exact * exact;
  }
  return std::sqrt(difference / norm);
}

template <typename T>
void check_small_pack_of(DType dtype, std::uint64_t seed, cudaStream_t stream) {
  const std::vector<T> x = drawn<T>(count(kTokens, kChannels), seed);
  const std::vector<T> down = drawn<T>(count(kLowRank, kChannels), seed + 1);
  const Packed<T> required = specified(x, down, dtype);
  const Packed<T> got = computed(x, down, dtype, stream);

  const std::string where = fmt::format("pack of {} x {}", kTokens, kChannels);
  if (got.operand != required.operand) {
    throw WrongResult(where + ": required the CPU's operand bit for bit, got other bits");
  }
  for (std::size_t m = 0; m < got.scale.size(); ++m) {
    if (!(std::abs(got.scale[m] / required.scale[m] - 1.0) <= kScaleTolerance)) {
      throw WrongResult(fmt::format("{}: required scale {} in row {}, got {}", where,
                                    required.scale[m], m, got.scale[m]));
    }
  }
  // Two roundings of nearly the same sum.
  const double allowed = dtype == DType::f16 ? 0x1p-10 : 0x1p-7;
  const double error = distance(got.low, required.low);
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
