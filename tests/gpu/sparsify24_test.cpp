// SPDX-License-Identifier: Apache-2.0
#include "kernels/plain/sparsify24.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "ops/samples.h"
#include "rtlynx/compress24.h"

namespace rtlynx {
namespace {

using testing::DeviceBuffer;
using testing::kTypes;
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

INSTANTIATE_TEST_SUITE_P(Types, PlainGpuTest, ::testing::ValuesIn(kTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
