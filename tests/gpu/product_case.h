// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/matrix.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::testing {

/// Every configuration of gpu::product24 that the current device runs.
std::vector<gpu::Gemm24Config> all_configs();

/// Those that cut tiles along K.
std::vector<gpu::Gemm24Config> stream_k_configs();

enum class Bias : std::uint8_t { none, fp32, elements };
enum class Residual : std::uint8_t { none, own, in_place };  // in_place: Y itself

/// One of the products of a case.
struct ProductShape {
  std::int64_t outputs = 0;
  std::int64_t low_column = 0;
  Bias bias = Bias::fp32;
  Activation activation = Activation::none;
  bool gate = false;
  Residual residual = Residual::none;
  std::int64_t gap = 0;  // elements between the rows of its matrices
};

/// What the elements of a case are. Integers and their sums are exact in fp32, s is 1.
enum class Values : std::uint8_t { normal, integers };

struct CaseShape {
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
  int rank = 0;
  std::int64_t low_columns = 0;   // 0: as many as the products read. Those that none reads are NaN
  std::int64_t image_tokens = 0;  // that share a row of gate
  std::int64_t low_gap = 0;       // elements between the rows of low
  std::vector<ProductShape> products = {};
};

/// One product with a bias, as most layers have.
CaseShape single(std::int64_t tokens, std::int64_t outputs, std::int64_t channels, int rank = 0);

/// "bf16 M 64, K 3072, rank 64, N 3072 256"
std::string describe(DType dtype, const CaseShape& shape);

/// A packed input and the products that read it, on the host and on the GPU.
class ProductCase {
 public:
  ProductCase(DType dtype, const CaseShape& shape, Values values = Values::normal);
  ~ProductCase();

  /// On the GPU.
  gpu::PackedInput packed() const;
  std::vector<Product24> products() const;

  /// Runs all of them into poisoned memory, or into a copy of the residual if that is Y itself, on
  /// a stream of its own, and waits.
  void run(const gpu::Gemm24Config& config);

  /// The errors of each Y are at most twice those of rounding the specification's result, in the
  /// Frobenius norm and in the largest element: of all elements, or of a sample with some of every
  /// tile.
  void expect_close();
  /// Each Y is the specification's, rounded.
  void expect_exact();

  /// run() and expect_close() for each configuration.
  void expect_close(const std::vector<gpu::Gemm24Config>& configs);

  Matrix y(std::size_t product) const;
  const Matrix& x() const { return x_; }
  const Matrix& weight(std::size_t product) const;
  const Matrix& up(std::size_t product) const;

  /// Other operands on the GPU, of the same shape: what is expected stays.
  void put_x(const Matrix& x);
  void put_weight(std::size_t product, const Matrix& weight);
  void put_up(std::size_t product, const Matrix& up);

  /// Another weight, which the specification gets as well.
  void replace_weight(std::size_t product, const Matrix& weight);

 private:
  struct Product;
  struct Sample;
  struct HostPacked;

  void pack(const Matrix& x, HostPacked& packed) const;
  const Sample& sample_of(Product& product);
  void expect_guards() const;

  DType dtype_;
  CaseShape shape_;
  Matrix x_;
  Matrix low_;
  std::vector<float> scale_;
  std::unique_ptr<HostPacked> host_;
  DeviceBuffer operand_, gpu_scale_;
  DeviceMatrix gpu_low_;
  std::vector<std::unique_ptr<Product>> products_;
};

}  // namespace rtlynx::testing
