// SPDX-License-Identifier: Apache-2.0
#include "kernels/plain/sparsify24.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "gpu/gpu_test.h"
#include "kernels/plain/linear24_steps.h"
#include "ops/samples.h"
#include "rtlynx/compress24.h"

namespace rtlynx {
namespace {

using testing::DeviceBuffer;
using testing::kTypes;
using testing::on_gpu;
using Bytes = std::vector<std::byte>;

class PlainGpuTest : public testing::GpuTest, public ::testing::WithParamInterface<DType> {};

void expect_specified(DType dtype, std::int64_t rows, std::int64_t columns, std::size_t offset) {
  const std::string where = std::string(name_of(dtype)) + " [" + std::to_string(rows) + ", " +
                            std::to_string(columns) + "] offset " + std::to_string(offset);
  const Bytes x = testing::adversarial_rows(dtype, rows, columns, 11);
  Bytes kept(x.size());
  std::vector<float> scale(static_cast<std::size_t>(rows));
  sparsify24(contiguous(x.data(), dtype, rows, columns),
             contiguous(kept.data(), dtype, rows, columns), scale.data());

  const DeviceBuffer gpu_x(x.size(), x.data(), {.offset = offset});
  const DeviceBuffer gpu_kept(x.size(), nullptr, {.offset = offset});
  const DeviceBuffer gpu_scale(scale.size() * sizeof(float));
  const testing::Stream stream;
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const cudaError_t status = launch_sparsify24({.x = gpu_x.data(),
                                                .kept = gpu_kept.data(),
                                                .scale = gpu_scale.floats(),
                                                .dtype = dtype,
                                                .rows = rows,
                                                .columns = columns},
                                               stream);
  ASSERT_EQ(status, cudaSuccess) << cudaGetErrorString(status) << ", " << where;
  stream.wait();

  EXPECT_EQ(gpu_kept.read(), kept) << where;
  EXPECT_TRUE(gpu_kept.guards_intact()) << where;
  const std::vector<float> gpu_values = gpu_scale.read<float>();
  for (std::size_t m = 0; m < scale.size(); ++m) {
    EXPECT_NEAR(gpu_values[m], scale[m], 1e-5 * scale[m]) << where << ", row " << m;
    if (scale[m] == 1.0f) {
      EXPECT_EQ(gpu_values[m], 1.0f) << where << ", row " << m;
    }
  }
}

TEST_P(PlainGpuTest, SparsifyGivesTheSpecifiedBits) {
  const std::size_t element = static_cast<std::size_t>(size_of(GetParam()));
  for (const std::int64_t rows : {0, 1, 6, 301}) {
    for (const std::int64_t columns : {0, 4, 12, 1020, 1024, 1028, 15360}) {
      expect_specified(GetParam(), rows, columns, 0);
      // Not on a vector boundary: torch slices are not
      expect_specified(GetParam(), rows, columns, element);
    }
  }
}

TEST_P(PlainGpuTest, SparsifyTakesMoreRowsThanBlocks) {
  expect_specified(GetParam(), (1 << 20) + 7, 4, 0);
}

TEST_P(PlainGpuTest, SparsifyLeavesAnUnwantedScaleAlone) {
  const std::int64_t rows = 9, columns = 64;
  const Bytes x = testing::adversarial_rows(GetParam(), rows, columns, 12);
  Bytes kept(x.size());
  sparsify24(contiguous(x.data(), GetParam(), rows, columns),
             contiguous(kept.data(), GetParam(), rows, columns), nullptr);
  const DeviceBuffer gpu_x(x.size(), x.data()), gpu_kept(x.size());
  ASSERT_EQ(launch_sparsify24({.x = gpu_x.data(),
                               .kept = gpu_kept.data(),
                               .dtype = GetParam(),
                               .rows = rows,
                               .columns = columns},
                              nullptr),
            cudaSuccess);
  EXPECT_EQ(gpu_kept.read(), kept);
}

TEST_P(PlainGpuTest, SparsifyRefusesHalfAGroup) {
  EXPECT_EQ(launch_sparsify24({.dtype = GetParam(), .rows = 1, .columns = 6}, nullptr),
            cudaErrorInvalidValue);
}

std::vector<float> normal(std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST_P(PlainGpuTest, DivideRowsRoundsOnce) {
  const std::int64_t rows = 7, columns = 300;
  const std::vector<float> h = normal(rows * columns, 1);
  const std::vector<float> scale = {1.0f, 1.1f, 1.25f, 1.3f, 1.4f, 1.41421f, 1.05f};
  with_element_type(GetParam(), [&](auto element) {
    using T = decltype(element);
    for (const bool scaled : {false, true}) {
      std::vector<T> expected;
      for (std::size_t i = 0; i < h.size(); ++i) {
        expected.push_back(from_float<T>(h[i] / (scaled ? scale[i / columns] : 1.0f)));
      }
      const DeviceBuffer gpu_h = on_gpu(h), gpu_scale = on_gpu(scale);
      const DeviceBuffer result(h.size() * sizeof(T));
      ASSERT_EQ(launch_divide_rows({.h = gpu_h.floats(),
                                    .scale = scaled ? gpu_scale.floats() : nullptr,
                                    .result = result.data(),
                                    .dtype = GetParam(),
                                    .rows = rows,
                                    .columns = columns},
                                   nullptr),
                cudaSuccess);
      EXPECT_EQ(result.read(), bytes_of(expected)) << "scaled " << scaled;
    }
  });
}

TEST_P(PlainGpuTest, EpilogueRoundsOnce) {
  const std::int64_t rows = 7, columns = 300;
  const std::vector<float> acc = normal(rows * columns, 1);
  const std::vector<float> low = normal(rows * columns, 2);
  const std::vector<float> scale = {1.0f, 1.1f, 1.25f, 1.3f, 1.4f, 1.41421f, 1.05f};
  with_element_type(GetParam(), [&](auto element) {
    using T = decltype(element);
    std::vector<T> bias;
    for (const float value : normal(columns, 3)) bias.push_back(from_float<T>(value));
    for (int parts = 0; parts < 8; ++parts) {  // every choice of what is there
      const bool with_low = parts & 1, with_scale = parts & 2, with_bias = parts & 4;
      std::vector<T> expected;
      for (std::size_t i = 0; i < acc.size(); ++i) {
        const float sum = with_low ? acc[i] + low[i] : acc[i];
        expected.push_back(from_float<T>(std::fma(with_scale ? scale[i / columns] : 1.0f, sum,
                                                  with_bias ? to_float(bias[i % columns]) : 0.0f)));
      }
      const DeviceBuffer gpu_acc = on_gpu(acc), gpu_low = on_gpu(low), gpu_scale = on_gpu(scale);
      const DeviceBuffer gpu_bias = on_gpu(bias), y(acc.size() * sizeof(T));
      ASSERT_EQ(launch_linear24_epilogue({.acc = gpu_acc.floats(),
                                          .low = with_low ? gpu_low.floats() : nullptr,
                                          .scale = with_scale ? gpu_scale.floats() : nullptr,
                                          .bias = with_bias ? gpu_bias.data() : nullptr,
                                          .y = y.data(),
                                          .dtype = GetParam(),
                                          .rows = rows,
                                          .columns = columns},
                                         nullptr),
                cudaSuccess);
      EXPECT_EQ(y.read(), bytes_of(expected)) << "parts " << parts;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Types, PlainGpuTest, ::testing::ValuesIn(kTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
