// SPDX-License-Identifier: Apache-2.0
// gpu::swiglu beside the specification.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "gpu/graph.h"
#include "gpu/matrix.h"
#include "rtlynx/gpu/rows.h"

namespace rtlynx {
namespace {

using testing::DeviceMatrix;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::Stream;

class SwigluGpuTest : public testing::GpuTest, public ::testing::WithParamInterface<DType> {};

/// exp2 and the reciprocal are approximate: at most a unit in the last place.
void expect_close(const Matrix& found, const Matrix& expected) {
  for (std::int64_t m = 0; m < found.rows; ++m) {
    for (std::int64_t k = 0; k < found.columns; ++k) {
      const float wanted = expected.value(m, k), got = found.value(m, k);
      if (std::isnan(wanted) || std::isinf(wanted)) {
        ASSERT_TRUE(std::isnan(wanted) ? std::isnan(got) : got == wanted) << m << ", " << k;
      } else {
        ASSERT_NEAR(got, wanted, testing::unit_at(found.dtype, wanted)) << m << ", " << k;
      }
    }
  }
}

TEST_P(SwigluGpuTest, IsSpecifiedForRowsThatLieApart) {
  for (const auto& [rows, columns] : {std::pair{1, 8}, {3, 2056}, {257, 10240}}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    const Matrix gate = testing::normal_matrix(GetParam(), rows, columns, 1, 6.0f);
    const Matrix up = testing::normal_matrix(GetParam(), rows, columns, 2);
    Matrix expected = testing::zeros(GetParam(), rows, columns);
    swiglu({.gate = gate.view(), .up = up.view(), .y = expected.view()});
    const DeviceMatrix::Layout apart{.gap = 24};
    const DeviceMatrix on_device_gate(gate, apart), on_device_up(up, apart);
    DeviceMatrix y(GetParam(), rows, columns, apart);
    const Stream stream;
    const auto run = [&] {
      gpu::swiglu({.gate = on_device_gate.view(), .up = on_device_up.view(), .y = y.view()},
                  stream);
    };
    run();
    stream.wait();
    const Matrix first = y.read();
    expect_close(first, expected);
    EXPECT_TRUE(y.guards_intact());
    const testing::Graph graph(stream, run);
    y.poison();
    graph.launch(stream);
    stream.wait();
    EXPECT_EQ(y.read().elements, first.elements);
  }
}

TEST_P(SwigluGpuTest, PassesOnWhatIsNotFinite) {
  const float gates[] = {INFINITY, -INFINITY, std::nanf(""), 1.0f, -1e4f, 6e4f, 0.0f, 1.0f};
  const float ups[] = {1.0f, 2.0f, 1.0f, std::nanf(""), 1.0f, 2.0f, 3.0f, INFINITY};
  Matrix gate = testing::zeros(GetParam(), 1, 8), up = testing::zeros(GetParam(), 1, 8);
  for (std::size_t k = 0; k < 8; ++k) {
    gate.elements[k] = testing::narrow(GetParam(), gates[k]);
    up.elements[k] = testing::narrow(GetParam(), ups[k]);
  }
  Matrix expected = testing::zeros(GetParam(), 1, 8);
  swiglu({.gate = gate.view(), .up = up.view(), .y = expected.view()});
  const DeviceMatrix on_device_gate(gate), on_device_up(up);
  const DeviceMatrix y(GetParam(), 1, 8);
  const Stream stream;
  gpu::swiglu({.gate = on_device_gate.view(), .up = on_device_up.view(), .y = y.view()}, stream);
  stream.wait();
  expect_close(y.read(), expected);
}

INSTANTIATE_TEST_SUITE_P(Types, SwigluGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
