// SPDX-License-Identifier: Apache-2.0
// The same bits every time: again, in a CUDA graph, behind the pack, beside another stream.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/graph.h"
#include "gpu/matrix.h"
#include "gpu/product_case.h"
#include "gpu/workspace.h"
#include "kernels/gemm/select.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::all_configs;
using testing::DeviceBuffer;
using testing::DeviceMatrix;
using testing::Elements;
using testing::Graph;
using testing::kNarrowTypes;
using testing::normal_matrix;
using testing::Stream;

constexpr std::int64_t kTokens = 1000, kChannels = 3088;
constexpr std::array<std::int64_t, 2> kOutputs = {1544, 264};
constexpr int kRank = 64;

/// One input and two weights: pack and product, the one behind the other on a stream, with buffers
/// of their own and one workspace.
class Layer {
 public:
  Layer(DType dtype, const Gemm24Config& config, std::uint32_t seed)
      : dtype_(dtype),
        config_(config),
        x_{DeviceMatrix(normal_matrix(dtype, kTokens, kChannels, seed)),
           DeviceMatrix(normal_matrix(dtype, kTokens, kChannels, seed + 1))},
        weight_{weight_of(0, seed + 2), weight_of(1, seed + 3)},
        down_(normal_matrix(dtype, 2 * kRank, kChannels, seed + 4)),
        up_{DeviceMatrix(normal_matrix(dtype, kOutputs[0], kRank, seed + 5)),
            DeviceMatrix(normal_matrix(dtype, kOutputs[1], kRank, seed + 6))},
        operand_(static_cast<std::size_t>(operand24_bytes(kTokens, kChannels))),
        scale_(kTokens * sizeof(float)),
        low_(dtype, kTokens, 2 * kRank),
        y_{DeviceMatrix(dtype, kTokens, kOutputs[0]), DeviceMatrix(dtype, kTokens, kOutputs[1])},
        workspace_(testing::shared_workspace_bytes(2 * kRank, config)) {}

  /// `input` 0 or 1: of two.
  void launch(std::size_t input, cudaStream_t stream) const {
    const gpu::PackedInput packed{.dtype = dtype_,
                                  .tokens = kTokens,
                                  .channels = kChannels,
                                  .operand = operand_.data(),
                                  .scale = scale_.floats(),
                                  .low = low_.view()};
    gpu::pack24({.x = x_[input].view(), .down = down_.view()}, packed, workspace_.view(), stream);
    std::array<Product24, 2> products;
    for (std::size_t i = 0; i < products.size(); ++i) {
      products[i] = {.weight = weight_[i].view(),
                     .up = up_[i].view(),
                     .low_column = static_cast<std::int64_t>(i) * kRank,
                     .y = y_[i].view()};
    }
    gpu::product24(packed, products, config_, workspace_.view(), stream);
  }

  /// Alone, with everything written before it poisoned.
  Elements run(std::size_t input) {
    poison();
    const Stream stream;
    launch(input, stream);
    stream.wait();
    return y();
  }

  void poison() {
    operand_.poison();
    scale_.poison();
    for (DeviceMatrix* matrix : {&low_, &y_[0], &y_[1]}) matrix->poison();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  /// Both results, the one behind the other.
  Elements y() const {
    workspace_.expect_clean();
    Elements both;
    for (const DeviceMatrix& y : y_) {
      EXPECT_TRUE(y.guards_intact());
      const Elements own = y.read().elements;
      both.insert(both.end(), own.begin(), own.end());
    }
    return both;
  }

  /// What was input 1 is input 0 from now on.
  void take_other_input() { x_[0].write(x_[1].read()); }

 private:
  DeviceMatrix weight_of(std::size_t index, std::uint32_t seed) const {
    return DeviceMatrix(normal_matrix(dtype_, kOutputs[index], kChannels, seed, 0.02f));
  }

  DType dtype_;
  Gemm24Config config_;
  std::array<DeviceMatrix, 2> x_, weight_;
  DeviceMatrix down_;
  std::array<DeviceMatrix, 2> up_;
  DeviceBuffer operand_, scale_;
  DeviceMatrix low_;
  std::array<DeviceMatrix, 2> y_;
  testing::TestWorkspace workspace_;
};

class DeterminismGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  template <typename Body>
  void with_every_config(Body body) {
    for (const Gemm24Config& config : all_configs()) {
      SCOPED_TRACE(gpu::describe(config));
      body(config);
    }
  }
};

TEST_P(DeterminismGpuTest, FiveRunsGiveTheSameBits) {
  with_every_config([](const Gemm24Config& config) {
    Layer layer(GetParam(), config, 1);
    const Elements first = layer.run(0);
    for (int run = 1; run < 5; ++run) EXPECT_TRUE(layer.run(0) == first) << "run " << run;
  });
}

// Inputs alternate, so that a product that does not wait for its pack is found out.
TEST_P(DeterminismGpuTest, ProductsWaitForTheirPack) {
  with_every_config([](const Gemm24Config& config) {
    Layer layer(GetParam(), config, 11);
    const std::array<Elements, 2> expected = {layer.run(0), layer.run(1)};
    EXPECT_FALSE(expected[0] == expected[1]);
    const Stream stream;
    for (std::size_t last = 0; last < 6; ++last) {
      for (std::size_t run = 0; run < 20 + last; ++run) layer.launch((run + 1) % 2, stream);
      stream.wait();
      EXPECT_TRUE(layer.y() == expected[last % 2]) << 20 + last << " launches";
    }
  });
}

TEST_P(DeterminismGpuTest, AGraphGivesTheSameBits) {
  with_every_config([](const Gemm24Config& config) {
    Layer layer(GetParam(), config, 21);
    const Elements first = layer.run(0), second = layer.run(1);
    const Stream stream;
    const Graph graph(stream, [&] { layer.launch(0, stream); });
    for (int replay = 0; replay < 3; ++replay) {
      layer.poison();
      graph.launch(stream);
      graph.launch(stream);
      stream.wait();
      EXPECT_TRUE(layer.y() == first) << "replay " << replay;
    }
    layer.take_other_input();
    layer.poison();
    graph.launch(stream);
    stream.wait();
    EXPECT_TRUE(layer.y() == second) << "after the input has changed";
  });
}

TEST_P(DeterminismGpuTest, TwoStreamsAtOnceGiveTheSameBits) {
  with_every_config([](const Gemm24Config& config) {
    Layer one(GetParam(), config, 31), other(GetParam(), config, 41);
    const Elements expected_one = one.run(0), expected_other = other.run(0);
    one.poison();
    other.poison();
    const Stream first, second;
    for (int launch = 0; launch < 20; ++launch) {
      one.launch(0, first);
      other.launch(0, second);
    }
    first.wait();
    second.wait();
    EXPECT_TRUE(one.y() == expected_one);
    EXPECT_TRUE(other.y() == expected_other);
  });
}

INSTANTIATE_TEST_SUITE_P(Types, DeterminismGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
