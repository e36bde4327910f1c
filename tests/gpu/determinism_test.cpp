// SPDX-License-Identifier: Apache-2.0
// The same bits every time: again, in a CUDA graph, behind the pack, beside another stream.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "gpu/gemm_case.h"
#include "gpu/gpu_test.h"
#include "gpu/pack_case.h"
#include "kernels/gemm/select.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24;
using gpu::Gemm24Config;
using testing::all_configs;
using testing::DeviceBuffer;
using testing::GemmCase;
using testing::kNarrowTypes;
using testing::PackWorkspace;
using testing::Stream;
using testing::Workspace;

using Bytes = std::vector<std::byte>;

constexpr std::int64_t kTokens = 1000, kOutputs = 1544, kChannels = 3088;
constexpr int kRank = 64;

/// A layer: pack and product, the one behind the other on a stream, with buffers of its own.
class Layer {
 public:
  Layer(DType dtype, const Gemm24Config& config, std::uint32_t seed)
      : dtype_(dtype),
        config_(config),
        x_{buffer(kTokens * kChannels, seed), buffer(kTokens * kChannels, seed + 1)},
        weight_(buffer(kOutputs * kChannels, seed + 2)),
        down_(buffer(kRank * kChannels, seed + 3)),
        up_(buffer(kOutputs * kRank, seed + 4)),
        operand_(static_cast<std::size_t>(operand24_bytes(kTokens, kChannels))),
        scale_(kTokens * sizeof(float)),
        low_(kTokens * kRank * 2),
        y_(kTokens * kOutputs * 2),
        pack_workspace_(kRank),
        workspace_(config) {}

  /// `input` 0 or 1: of two.
  void launch(int input, bool follows_pack, cudaStream_t stream) const {
    gpu::Pack24 pack{.x = contiguous(x_[input]->data(), dtype_, kTokens, kChannels),
                     .operand = operand_.data(),
                     .scale = scale_.floats(),
                     .down = contiguous(down_->data(), dtype_, kRank, kChannels),
                     .low = low_.data()};
    pack_workspace_.attach(pack);
    gpu::pack24(pack, stream);
    Gemm24 problem{.shape = {kTokens, kOutputs, kChannels, kRank, dtype_},
                   .operand = operand_.data(),
                   .weight = weight_->data(),
                   .low = low_.data(),
                   .up = up_->data(),
                   .scale = scale_.floats(),
                   .y = y_.data(),
                   .follows_pack = follows_pack};
    workspace_.attach(problem);
    gpu::gemm24(problem, config_, stream);
  }

  /// Alone, with everything written before it poisoned.
  Bytes run(int input, bool follows_pack = false) {
    poison();
    const Stream stream;
    launch(input, follows_pack, stream);
    stream.wait();
    return y();
  }

  void poison() {
    for (DeviceBuffer* buffer : {&operand_, &scale_, &low_, &y_}) buffer->poison();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  Bytes y() const {
    pack_workspace_.expect_clean();
    workspace_.expect_clean();
    EXPECT_TRUE(y_.guards_intact());
    return y_.read();
  }
  DeviceBuffer& input() { return *x_[0]; }
  const DeviceBuffer& other_input() const { return *x_[1]; }

 private:
  using Buffer = std::unique_ptr<DeviceBuffer>;

  Buffer buffer(std::int64_t count, std::uint32_t seed) const {
    auto result = std::make_unique<DeviceBuffer>(static_cast<std::size_t>(count) * 2);
    testing::fill_normal(result->data(), dtype_, count, seed);
    return result;
  }

  DType dtype_;
  Gemm24Config config_;
  std::array<Buffer, 2> x_;
  Buffer weight_, down_, up_;
  DeviceBuffer operand_, scale_, low_, y_;
  PackWorkspace pack_workspace_;
  Workspace workspace_;
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
    const Bytes first = layer.run(0);
    for (int run = 1; run < 5; ++run) EXPECT_TRUE(layer.run(0) == first) << "run " << run;
  });
}

// Inputs alternate, so that a product that does not wait for its pack is found out.
TEST_P(DeterminismGpuTest, ProductsWaitForTheirPack) {
  with_every_config([](const Gemm24Config& config) {
    Layer layer(GetParam(), config, 11);
    const std::array<Bytes, 2> expected = {layer.run(0), layer.run(1)};
    EXPECT_FALSE(expected[0] == expected[1]);
    const Stream stream;
    for (int last = 0; last < 6; ++last) {
      for (int run = 0; run < 20 + last; ++run) {
        layer.launch((run + 1) % 2, /*follows_pack=*/true, stream);
      }
      stream.wait();
      EXPECT_TRUE(layer.y() == expected[last % 2]) << 20 + last << " launches";
    }
  });
}

class Graph {
 public:
  /// Captures what `body` launches on the stream.
  template <typename Body>
  Graph(cudaStream_t stream, Body body) {
    EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    body();
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph_), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&instance_, graph_, 0), cudaSuccess);
  }
  ~Graph() {
    cudaGraphExecDestroy(instance_);
    cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(cudaStream_t stream) const {
    EXPECT_EQ(cudaGraphLaunch(instance_, stream), cudaSuccess);
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t instance_ = nullptr;
};

TEST_P(DeterminismGpuTest, AGraphGivesTheSameBits) {
  with_every_config([](const Gemm24Config& config) {
    for (const bool follows_pack : {false, true}) {
      Layer layer(GetParam(), config, 21);
      const Bytes first = layer.run(0), second = layer.run(1);
      const Stream stream;
      const Graph graph(stream, [&] { layer.launch(0, follows_pack, stream); });
      for (int replay = 0; replay < 3; ++replay) {
        layer.poison();
        graph.launch(stream);
        graph.launch(stream);
        stream.wait();
        EXPECT_TRUE(layer.y() == first) << "replay " << replay;
      }
      ASSERT_EQ(cudaMemcpy(layer.input().data(), layer.other_input().data(), layer.input().size(),
                           cudaMemcpyDeviceToDevice),
                cudaSuccess);
      layer.poison();
      graph.launch(stream);
      stream.wait();
      EXPECT_TRUE(layer.y() == second) << "after the input has changed";
    }
  });
}

TEST_P(DeterminismGpuTest, TwoStreamsAtOnceGiveTheSameBits) {
  with_every_config([](const Gemm24Config& config) {
    Layer one(GetParam(), config, 31), other(GetParam(), config, 41);
    const Bytes expected_one = one.run(0), expected_other = other.run(0);
    one.poison();
    other.poison();
    const Stream first, second;
    for (int launch = 0; launch < 20; ++launch) {
      one.launch(0, /*follows_pack=*/true, first);
      other.launch(0, /*follows_pack=*/true, second);
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
