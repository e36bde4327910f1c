// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/matrix.h"
#include "gpu/product_case.h"
#include "rtlynx/gpu/weight24.h"

namespace rtlynx::testing {

/// Every configuration of gpu::weight_product24.
std::vector<gpu::Gemm24Config> weight_configs();

/// A dense input and products of sparse weights, on the host and on the GPU.
class WeightCase {
 public:
  /// `codes`: input and weights are e4m3, with scales; else of the element type, without.
  WeightCase(DType dtype, const CaseShape& shape, bool codes, Values values = Values::normal);
  ~WeightCase();

  /// On the GPU.
  DenseInput24 input() const;
  std::vector<WeightProduct24> products() const;

  /// Runs all of them into poisoned memory, or into a copy of the residual if that is Y itself, on
  /// a stream of its own, and waits.
  void run(const gpu::Gemm24Config& config);

  /// The error of each Y is at most that of two roundings, and of e4m3 what wgmma cuts off, of the
  /// specification's, in the Frobenius norm; of all tokens or of some of every tile.
  void expect_close();
  void expect_exact();

  /// run() and expect_close() for each configuration.
  void expect_close(const std::vector<gpu::Gemm24Config>& configs);

  Matrix y(std::size_t product) const;
  const Matrix& x() const { return x_; }

  /// Another input on the GPU: what is expected stays.
  void put_x(const Matrix& x);

 private:
  struct Product;

  void specify(Product& product) const;
  const std::vector<std::int64_t>& sample();

  DType dtype_;
  CaseShape shape_;
  bool codes_;
  Matrix x_, low_;
  std::vector<float> scale_;
  DeviceBuffer gpu_x_, gpu_scale_;
  DeviceMatrix gpu_low_;
  std::vector<std::int64_t> sample_;  // tokens that are compared
  std::vector<std::unique_ptr<Product>> products_;
};

}  // namespace rtlynx::testing
