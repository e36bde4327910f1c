// SPDX-License-Identifier: Apache-2.0
// gpu::pack24 and gpu::product24 together are rtlynx::pack24 and rtlynx::product24.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "gpu/pack_case.h"
#include "gpu/product_case.h"
#include "kernels/gemm/select.h"

namespace rtlynx {
namespace {

using testing::DeviceMatrix;
using testing::HostInput;
using testing::Matrix;
using testing::normal_matrix;

constexpr std::int64_t kTokens = 130, kOutputs = 264, kChannels = 208;
constexpr int kRank = 48;

/// fp32 on the host.
struct WideMatrix {
  explicit WideMatrix(const Matrix& matrix)
      : data(testing::widened(matrix)),
        view(contiguous(static_cast<void*>(data.data()), DType::f32, matrix.rows, matrix.columns)) {
  }
  WideMatrix(const WideMatrix&) = delete;
  WideMatrix& operator=(const WideMatrix&) = delete;

  std::vector<float> data;
  MatrixView view;
};

class LayerGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  /// Y of the specification without its last rounding.
  static std::vector<float> in_fp32(const HostInput& input, const Matrix& weight,
                                    const Matrix& up) {
    Matrix values = testing::zeros(GetParam(), kTokens, kChannels / 2);
    Matrix low = testing::zeros(GetParam(), kTokens, kRank);
    std::vector<std::uint16_t> metadata(kTokens * kChannels / 16);
    std::vector<float> scale(kTokens);
    pack24(input.view(), {.values = values.view(),
                          .metadata = metadata.data(),
                          .scale = scale.data(),
                          .low = low.view()});
    WideMatrix wide_values(values), wide_low(low), wide_weight(weight), wide_up(up);
    WideMatrix y(testing::zeros(GetParam(), kTokens, kOutputs));
    const Product24 product{.weight = wide_weight.view,
                            .up = wide_up.view,
                            .activation = Activation::gelu,
                            .y = y.view};
    product24({.values = wide_values.view,
               .metadata = metadata.data(),
               .scale = scale.data(),
               .low = wide_low.view},
              {&product, 1});
    return y.data;
  }
};

TEST_P(LayerGpuTest, PackAndProductAreALinear) {
  const HostInput input{.x = normal_matrix(GetParam(), kTokens, kChannels, 1),
                        .down = normal_matrix(GetParam(), kRank, kChannels, 2, 0.07f)};
  const Matrix weight = normal_matrix(GetParam(), kOutputs, kChannels, 3, 0.07f);
  const Matrix up = normal_matrix(GetParam(), kOutputs, kRank, 4, 0.1f);
  const std::vector<float> expected = in_fp32(input, weight, up);

  testing::PackCase pack(input);
  pack.run();
  const DeviceMatrix gpu_weight(weight), gpu_up(up);
  for (const gpu::Gemm24Config& config : testing::all_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    const DeviceMatrix y(GetParam(), kTokens, kOutputs);
    const testing::TestWorkspace workspace(testing::shared_workspace_bytes(kRank, config));
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const Product24 product{.weight = gpu_weight.view(),
                            .up = gpu_up.view(),
                            .activation = Activation::gelu,
                            .y = y.view()};
    gpu::product24(pack.packed(), {&product, 1}, config, workspace.view(), nullptr);
    const Matrix result = y.read();
    double error = 0.0, rounding = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto value = [](std::uint16_t bits) {
        return double{testing::widen(GetParam(), bits)};
      };
      error += std::pow(value(result.elements[i]) - expected[i], 2);
      rounding += std::pow(value(testing::narrow(GetParam(), expected[i])) - expected[i], 2);
    }
    EXPECT_GT(rounding, 0.0);
    EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LayerGpuTest, ::testing::ValuesIn(testing::kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
