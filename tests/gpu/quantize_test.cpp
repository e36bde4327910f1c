// SPDX-License-Identifier: Apache-2.0
// gpu::quantize beside the specification.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpu/graph.h"
#include "gpu/matrix.h"
#include "rtlynx/gpu/rows.h"

namespace rtlynx {
namespace {

using testing::DeviceBuffer;
using testing::DeviceMatrix;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::Stream;

class QuantizeGpuTest : public testing::GpuTest, public ::testing::WithParamInterface<DType> {};

/// The same bits, but that a NaN may have either sign.
void expect_same(const Matrix& x, const DeviceBuffer& gpu_codes, const DeviceBuffer& gpu_units) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(x.rows * x.columns));
  std::vector<float> units(static_cast<std::size_t>(x.rows));
  quantize({.x = x.view(),
            .codes = contiguous(static_cast<void*>(codes.data()), DType::e4m3, x.rows, x.columns),
            .unit = units.data()});
  const auto got_codes = gpu_codes.read<std::uint8_t>();
  const auto got_units = gpu_units.read<float>();
  for (std::size_t m = 0; m < units.size(); ++m) ASSERT_EQ(got_units[m], units[m]) << "row " << m;
  const auto plain = [](std::uint8_t code) { return (code & 0x7fu) == 0x7fu ? 0x7fu : code; };
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(plain(got_codes[i]), plain(codes[i]))
        << "row " << i / static_cast<std::size_t>(x.columns);
  }
  EXPECT_TRUE(gpu_codes.guards_intact());
  EXPECT_TRUE(gpu_units.guards_intact());
}

TEST_P(QuantizeGpuTest, IsSpecifiedBitForBit) {
  for (const auto& [rows, columns] :
       {std::pair{1, 16}, {3, 2064}, {300, 8192}, {40, 15360}, {2, 32768}}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    for (const bool hard : {false, true}) {
      const Matrix x = hard ? testing::hard_rows(GetParam(), rows, columns, 0)
                            : testing::normal_matrix(GetParam(), rows, columns, 1, 3.0f);
      const DeviceMatrix on_device(x, DeviceMatrix::Layout{.gap = 24});
      DeviceBuffer codes(static_cast<std::size_t>(rows * columns));
      DeviceBuffer units(static_cast<std::size_t>(rows) * sizeof(float));
      const Stream stream;
      const auto run = [&] {
        gpu::quantize({.x = on_device.view(),
                       .codes = contiguous(codes.data(), DType::e4m3, rows, columns),
                       .unit = units.floats()},
                      stream);
      };
      run();
      stream.wait();
      expect_same(x, codes, units);
      const testing::Graph graph(stream, run);
      codes.poison();
      units.poison();
      graph.launch(stream);
      stream.wait();
      expect_same(x, codes, units);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizeGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
