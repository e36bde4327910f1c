// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/host_input.h"
#include "gpu/matrix.h"
#include "gpu/workspace.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::testing {

struct E4m3Shape {
  std::vector<std::int64_t> outputs;
  int rank = 0;
  bool integers = false;
  bool epilogue = false;  // bias, GELU, gate and residual
};

/// An input that is packed to e4m3, and products of it, beside the specification.
class E4m3Case {
 public:
  E4m3Case(HostInput input, E4m3Shape shape);
  ~E4m3Case();

  Pack24 problem() const;

  void pack();
  void multiply(const gpu::Gemm24Config& config);

  /// Factors, operand, scale and low are the specification's of the z that the kernel saw.
  void expect_packed();

  /// Y is near the specification's of what the kernel packed.
  void expect_products(bool exact);

  std::vector<std::byte> operand() const { return operand_.read(); }
  std::vector<float> scale() const { return scale_.read<float>(); }
  Matrix y(std::size_t i) const;

 private:
  struct Product;  // one weight, its part of the low rank and its result

  gpu::PackedInput packed() const;
  Product24 product(std::size_t i, const void* codes, ConstMatrixView up, const void* bias,
                    ConstMatrixView gate, ConstMatrixView residual, MatrixView y) const;
  ConstMatrixView values() const;
  void expect_factors(const Matrix& z);
  void specify(const Matrix& z);
  void expect_operand();
  void expect_low();
  void specify_products(const std::vector<float>& scale, const Matrix& low);

  HostInput input_;
  E4m3Shape shape_;
  DType dtype_;
  std::int64_t tokens_, channels_;
  DeviceMatrix x_, tail_, up_, modulation_scale_, modulation_shift_, down_;
  DeviceBuffer moments_, weight_, transform_, factors_, scale_, operand_;
  DeviceMatrix low_, z_;
  TestWorkspace workspace_;
  std::vector<std::unique_ptr<Product>> products_;
  std::vector<float> factor_, spec_scale_;
  std::vector<std::uint8_t> values_;
  std::vector<std::uint16_t> metadata_;
  std::vector<float> spec_low_;
  bool specified_ = false;
};

}  // namespace rtlynx::testing
