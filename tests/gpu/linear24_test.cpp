// SPDX-License-Identifier: Apache-2.0
// gpu::pack24 and gpu::gemm24 together are rtlynx::linear24.
#include "rtlynx/linear24.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/half.h"
#include "gpu/gemm_case.h"
#include "gpu/pack_case.h"
#include "kernels/gemm/select.h"

namespace rtlynx {
namespace {

using testing::Elements;
using testing::normal_elements;
using testing::on_gpu;

constexpr std::int64_t kTokens = 130, kOutputs = 264, kChannels = 208;
constexpr int kRank = 48;

class Linear24GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  /// Of Y beside the CPU's, which is fp32: the error, and that of rounding the CPU's once.
  void expect_close(const Elements& y, const std::vector<float>& expected) const {
    double error = 0.0, rounding = 0.0;
    with_element_type(GetParam(), [&](auto element) {
      using T = decltype(element);
      if constexpr (sizeof(T) == 2) {
        for (std::size_t i = 0; i < y.size(); ++i) {
          error += std::pow(double{to_float(T{y[i]})} - expected[i], 2);
          rounding += std::pow(double{to_float(from_float<T>(expected[i]))} - expected[i], 2);
        }
      }
    });
    EXPECT_GT(rounding, 0.0);
    EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding));
  }
};

TEST_P(Linear24GpuTest, PackAndProductAreALinearLayer) {
  const Elements x = normal_elements(GetParam(), kTokens * kChannels, 1);
  const Elements weight = normal_elements(GetParam(), kOutputs * kChannels, 2, 0.07f);
  const Elements down = normal_elements(GetParam(), kRank * kChannels, 3, 0.07f);
  const Elements up = normal_elements(GetParam(), kOutputs * kRank, 4, 0.1f);
  std::vector<float> bias(kOutputs), expected(kTokens * kOutputs);
  for (std::size_t n = 0; n < bias.size(); ++n) bias[n] = 0.01f * static_cast<float>(n);
  const auto view = [](const Elements& elements, std::int64_t rows) {
    const auto columns = static_cast<std::int64_t>(elements.size()) / rows;
    return contiguous(static_cast<const void*>(elements.data()), GetParam(), rows, columns);
  };
  linear24({.x = view(x, kTokens),
            .weight = view(weight, kOutputs),
            .down = view(down, kRank),
            .up = view(up, kOutputs),
            .bias = bias.data()},
           contiguous(expected.data(), DType::f32, kTokens, kOutputs));

  testing::PackCase pack(
      {.dtype = GetParam(), .tokens = kTokens, .channels = kChannels, .rank = kRank}, x, down);
  pack.run();
  const testing::DeviceBuffer gpu_weight = on_gpu(weight), gpu_up = on_gpu(up);
  const testing::DeviceBuffer gpu_bias = on_gpu(bias);
  for (const gpu::Gemm24Config& config : testing::all_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    const testing::DeviceBuffer y(2 * expected.size());
    const testing::Workspace workspace(config);
    const gpu::Pack24 packed = pack.problem();
    gpu::Gemm24 problem{.shape = {kTokens, kOutputs, kChannels, kRank, GetParam()},
                        .operand = packed.operand,
                        .weight = gpu_weight.data(),
                        .low = packed.low,
                        .up = gpu_up.data(),
                        .scale = packed.scale,
                        .bias = gpu_bias.floats(),
                        .y = y.data()};
    workspace.attach(problem);
    gpu::gemm24(problem, config, nullptr);
    expect_close(y.read<std::uint16_t>(), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Linear24GpuTest, ::testing::ValuesIn(testing::kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
