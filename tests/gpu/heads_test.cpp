// SPDX-License-Identifier: Apache-2.0
// gpu::head_norm beside the specification.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gpu/graph.h"
#include "gpu/matrix.h"
#include "rtlynx/gpu/rows.h"

namespace rtlynx {
namespace {

using testing::DeviceBuffer;
using testing::DeviceMatrix;
using testing::Elements;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::normal_matrix;
using testing::on_gpu;
using testing::Stream;

struct HeadShape {
  std::vector<std::int64_t> tokens = {};  // of each stream, in an image
  std::int64_t images = 1;
  std::int64_t heads = 1;
  std::int64_t head_dim = 64;
  bool weighted = true;
  bool turned = true;
  bool with_v = true;
  std::int64_t gap = 0;

  std::int64_t columns() const { return heads * head_dim; }
  std::int64_t image_tokens() const {
    std::int64_t sum = 0;
    for (const std::int64_t count : tokens) sum += count;
    return sum;
  }
  std::int64_t rows() const { return images * image_tokens(); }
};

std::string describe(const HeadShape& shape) {
  std::string text = std::to_string(shape.images) + " images of";
  for (const std::int64_t count : shape.tokens) text.append(" ").append(std::to_string(count));
  return text + " tokens, " + std::to_string(shape.heads) + " heads of " +
         std::to_string(shape.head_dim);
}

/// q, k and v of a stream, or of the result, on the host.
struct HostHeads {
  Matrix matrices[3];
};

/// One problem for gpu::head_norm.
class HeadCase {
 public:
  HeadCase(DType dtype, const HeadShape& shape) : dtype_(dtype), shape_(shape) {
    std::uint32_t seed = 1;
    for (const std::int64_t tokens : shape.tokens) {
      const auto draw = [&](std::int64_t rows, std::int64_t columns) {
        return normal_matrix(dtype, rows, columns, seed++, 2.0f);
      };
      streams_.emplace_back();
      for (Matrix& matrix : streams_.back().matrices) {
        matrix = draw(shape.images * tokens, shape.columns());
        gpu_matrices_.push_back(
            std::make_unique<DeviceMatrix>(matrix, DeviceMatrix::Layout{.gap = shape.gap}));
      }
      for (int i = 0; i < 2; ++i) {
        weights_.push_back(draw(1, shape.head_dim));
        gpu_weights_.push_back(std::make_unique<DeviceMatrix>(weights_.back()));
      }
    }
    for (std::int64_t i = 0; i < shape.image_tokens() * shape.head_dim / 2; ++i) {
      const auto angle = 0.37f * static_cast<float>(i);
      rotation_.insert(rotation_.end(), {std::cos(angle), std::sin(angle)});
    }
    gpu_rotation_ = std::make_unique<DeviceBuffer>(4 * rotation_.size(), rotation_.data());
    for (int i = 0; i < 3; ++i) {
      results_.push_back(std::make_unique<DeviceMatrix>(dtype, shape.rows(), shape.columns(),
                                                        DeviceMatrix::Layout{.gap = shape.gap}));
    }
  }

  void launch(cudaStream_t stream) const {
    HeadNorm problem = sizes();
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      const auto input = [&](std::size_t which) { return gpu_matrices_[3 * i + which]->view(); };
      const auto weight = [&](std::size_t which) -> const void* {
        return shape_.weighted ? gpu_weights_[2 * i + which]->view().data : nullptr;
      };
      problem.streams[i] = {.tokens = shape_.tokens[i],
                            .q = input(0),
                            .k = input(1),
                            .q_weight = weight(0),
                            .k_weight = weight(1)};
      if (shape_.with_v) problem.streams[i].v = input(2);
    }
    if (shape_.turned) problem.rotation = gpu_rotation_->floats();
    problem.q = results_[0]->view();
    problem.k = results_[1]->view();
    if (shape_.with_v) problem.v = results_[2]->view();
    gpu::head_norm(problem, stream);
  }

  void poison() {
    for (const auto& result : results_) result->poison();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  void run() {
    poison();
    const Stream stream;
    launch(stream);
    stream.wait();
  }

  Elements result(std::size_t which) const { return results_[which]->read().elements; }

  void expect_specified() {
    SCOPED_TRACE(describe(shape_));
    const Elements poisoned = (poison(), result(2));
    run();
    const HostHeads expected = specified();
    for (std::size_t which = 0; which < 2; ++which) {
      expect_close(results_[which]->read(), expected.matrices[which]);
    }
    EXPECT_EQ(result(2), shape_.with_v ? expected.matrices[2].elements : poisoned);
    for (const auto& matrix : results_) EXPECT_TRUE(matrix->guards_intact());
  }

 private:
  HeadNorm sizes() const {
    return {.stream_count = static_cast<int>(streams_.size()),
            .images = shape_.images,
            .heads = shape_.heads,
            .head_dim = shape_.head_dim,
            .eps = 1e-2f};
  }

  HostHeads specified() const {
    HostHeads result;
    for (Matrix& matrix : result.matrices) {
      matrix = testing::zeros(dtype_, shape_.rows(), shape_.columns());
    }
    HeadNorm problem = sizes();
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      const auto& inputs = streams_[i].matrices;
      const auto weight = [&](std::size_t which) -> const void* {
        return shape_.weighted ? weights_[2 * i + which].elements.data() : nullptr;
      };
      problem.streams[i] = {.tokens = shape_.tokens[i],
                            .q = inputs[0].view(),
                            .k = inputs[1].view(),
                            .v = inputs[2].view(),
                            .q_weight = weight(0),
                            .k_weight = weight(1)};
    }
    if (shape_.turned) problem.rotation = rotation_.data();
    problem.q = result.matrices[0].view();
    problem.k = result.matrices[1].view();
    problem.v = result.matrices[2].view();
    head_norm(problem);
    return result;
  }

  /// The rate may be off by a few roundings of fp32: then one in a thousand elements is rounded the
  /// other way on one of its three roundings. Each of them is a unit in the last place of one of
  /// the pair, before it is turned.
  void expect_close(const Matrix& found, const Matrix& expected) const {
    std::int64_t differing = 0;
    for (std::int64_t m = 0; m < found.rows; ++m) {
      for (std::int64_t k = 0; k < found.columns; ++k) {
        const std::size_t at = found.index(m, k);
        if (found.elements[at] == expected.elements[at]) continue;
        ++differing;
        const double pair = std::fabs(expected.value(m, k)) + std::fabs(expected.value(m, k ^ 1));
        ASSERT_NEAR(found.value(m, k), expected.value(m, k), 6 * testing::unit_at(dtype_, pair))
            << "row " << m << ", column " << k;
      }
    }
    EXPECT_LE(differing, 1 + found.rows * found.columns / 50);
  }

  DType dtype_;
  HeadShape shape_;
  std::vector<HostHeads> streams_;
  std::vector<Matrix> weights_;  // of q and of k, stream by stream
  std::vector<float> rotation_;
  std::vector<std::unique_ptr<DeviceMatrix>> gpu_matrices_, gpu_weights_, results_;
  std::unique_ptr<DeviceBuffer> gpu_rotation_;
};

class HeadsGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  static void expect_specified(const HeadShape& shape) {
    HeadCase(GetParam(), shape).expect_specified();
  }
};

// Heads of every group of lanes, filled and not, in passes of which the last is not full.
TEST_P(HeadsGpuTest, HeadsOfEverySize) {
  for (const std::int64_t head_dim : {8, 16, 24, 64, 72, 96, 128, 136, 192, 256}) {
    for (const std::int64_t heads : {1, 3, 24, 40}) {
      expect_specified({.tokens = {5}, .heads = heads, .head_dim = head_dim});
    }
  }
}

TEST_P(HeadsGpuTest, StreamsAndImages) {
  for (const std::int64_t images : {1, 3}) {
    for (const std::vector<std::int64_t>& tokens :
         std::vector<std::vector<std::int64_t>>{{1}, {130}, {1, 1}, {37, 100}, {100, 37}, {0, 9}}) {
      for (const std::int64_t gap : {0, 8, 256}) {
        expect_specified(
            {.tokens = tokens, .images = images, .heads = 6, .head_dim = 128, .gap = gap});
      }
    }
  }
}

TEST_P(HeadsGpuTest, WhatIsNotGivenIsLeftOut) {
  for (int parts = 0; parts < 8; ++parts) {
    SCOPED_TRACE("parts " + std::to_string(parts));
    expect_specified({.tokens = {20, 33},
                      .images = 2,
                      .heads = 5,
                      .head_dim = 64,
                      .weighted = (parts & 1) != 0,
                      .turned = (parts & 2) != 0,
                      .with_v = (parts & 4) != 0});
  }
}

TEST_P(HeadsGpuTest, ManyTokens) {
  expect_specified({.tokens = {512, 1600}, .heads = 24, .head_dim = 128});
}

TEST_P(HeadsGpuTest, TheSameBitsAgainAndInAGraph) {
  HeadCase heads(GetParam(), {.tokens = {100, 300}, .images = 2, .heads = 24, .head_dim = 128});
  heads.run();
  const Elements first[] = {heads.result(0), heads.result(1), heads.result(2)};
  const Stream stream;
  const testing::Graph graph(stream, [&] { heads.launch(stream); });
  for (int replay = 0; replay < 3; ++replay) {
    heads.poison();
    graph.launch(stream);
    stream.wait();
    for (std::size_t which = 0; which < 3; ++which) EXPECT_EQ(heads.result(which), first[which]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, HeadsGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
