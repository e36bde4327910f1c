// SPDX-License-Identifier: Apache-2.0
#include "gpu/e4m3_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/half.h"
#include "gpu/parallel.h"
#include "kernels/pack/pack24.h"
#include "rtlynx/operand24.h"

namespace rtlynx::testing {
namespace {

constexpr float kWeightUnit = 0x1p-8f;
// wgmma adds products of e4m3 with some 13 bits of fraction, cut off: for K up to 15360 that is
// below half a percent of the outputs' root mean square (docs/kernels.md).
constexpr double kAccumulation = 0.005;

}  // namespace

struct E4m3Case::Product {
  Product(DType dtype, std::int64_t tokens, std::int64_t channels, std::int64_t n,
          std::uint32_t seed, const E4m3Shape& shape)
      : outputs(n),
        up(normal_matrix(dtype, n, shape.rank, seed + 1, 16.0f)),
        bias(uniform(n, seed + 2, -1.0f, 1.0f)),
        gate(normal_matrix(dtype, shape.epilogue ? 1 : 0, n, seed + 3)),
        residual(normal_matrix(dtype, shape.epilogue ? tokens : 0, n, seed + 4)),
        codes(codes_of(shape.integers ? integer_matrix(dtype, n, channels, seed, 4)
                                      : normal_matrix(dtype, n, channels, seed, 16.0f))),
        gpu_codes(on_gpu(codes)),
        gpu_up(up),
        gpu_bias(on_gpu(bias)),
        gpu_gate(gate),
        gpu_residual(residual),
        gpu_y(dtype, tokens, n),
        gpu_largest(static_cast<std::size_t>(tokens) * sizeof(float)),
        y(zeros(dtype, tokens, n)) {}

  static std::vector<std::uint8_t> codes_of(const Matrix& values) {
    std::vector<std::uint8_t> codes;
    for (const std::uint16_t bits : values.elements) {
      codes.push_back(to_e4m3(widen(values.dtype, bits)).bits);
    }
    return codes;
  }

  std::int64_t outputs;
  Matrix up;
  std::vector<float> bias;
  Matrix gate, residual;
  std::vector<std::uint8_t> codes;
  DeviceBuffer gpu_codes;
  DeviceMatrix gpu_up;
  DeviceBuffer gpu_bias;
  DeviceMatrix gpu_gate, gpu_residual, gpu_y;
  DeviceBuffer gpu_largest;
  Matrix y;  // the specification's
};

E4m3Case::E4m3Case(HostInput input, E4m3Shape shape)
    : input_(std::move(input)),
      shape_(std::move(shape)),
      dtype_(input_.x.dtype),
      tokens_(input_.tokens()),
      channels_(input_.channels()),
      x_(input_.x),
      tail_(input_.tail),
      up_(input_.up),
      modulation_scale_(input_.modulation_scale),
      modulation_shift_(input_.modulation_shift),
      down_(input_.down),
      moments_(on_gpu(input_.moments)),
      weight_(on_gpu(input_.weight)),
      transform_(on_gpu(input_.transform)),
      factors_(static_cast<std::size_t>(tokens_) * sizeof(float)),
      scale_(static_cast<std::size_t>(tokens_) * sizeof(float)),
      operand_(static_cast<std::size_t>(operand24_bytes(tokens_, channels_, OperandWidth::k8))),
      low_(dtype_, tokens_, input_.down.rows),
      z_(dtype_, tokens_, channels_),
      workspace_(
          gpu::pack24_workspace_bytes(static_cast<int>(input_.down.rows), gpu::current_device())) {
  std::uint32_t seed = 10;
  for (const std::int64_t n : shape_.outputs) {
    products_.push_back(
        std::make_unique<Product>(dtype_, tokens_, channels_, n, seed += 10, shape_));
  }
}

E4m3Case::~E4m3Case() = default;

Pack24 E4m3Case::problem() const {
  Pack24 problem = input_.view();
  problem.x = x_.view();
  problem.tail = tail_.view();
  problem.up = up_.view();
  if (!input_.moments.empty()) problem.moments = moments_.floats();
  if (!input_.weight.empty()) problem.weight = weight_.data();
  problem.modulation_scale = modulation_scale_.view();
  problem.modulation_shift = modulation_shift_.view();
  if (!input_.transform.empty()) problem.transform = transform_.data();
  problem.down = down_.view();
  problem.code_factor = factors_.floats();
  problem.weight_unit = kWeightUnit;
  return problem;
}

gpu::PackedInput E4m3Case::packed() const {
  return {.dtype = dtype_,
          .width = OperandWidth::k8,
          .tokens = tokens_,
          .channels = channels_,
          .operand = operand_.data(),
          .scale = scale_.floats(),
          .low = low_.view()};
}

void E4m3Case::pack() {
  for (DeviceBuffer* buffer : {&factors_, &scale_, &operand_}) buffer->poison();
  low_.poison();
  z_.poison();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  gpu::code_factors(problem(), /*transform_gain=*/1.0f, factors_.floats(), stream);
  pack::pack24_by(pack::Kernel::fastest, problem(), packed(), workspace_.view(), stream,
                  z_.view().data);
  stream.wait();
  workspace_.expect_clean();
}

void E4m3Case::multiply(const gpu::Gemm24Config& config) {
  std::vector<Product24> products;
  for (std::size_t i = 0; i < products_.size(); ++i) {
    const Product& own = *products_[i];
    products_[i]->gpu_y.poison();
    products_[i]->gpu_largest.fill(0);
    products.push_back(product(i, own.gpu_codes.data(), own.gpu_up.view(), own.gpu_bias.data(),
                               own.gpu_gate.view(), own.gpu_residual.view(), own.gpu_y.view()));
  }
  for (std::size_t i = 0; i < products.size(); ++i) {
    products[i].largest = products_[i]->gpu_largest.floats();
  }
  const TestWorkspace workspace(gpu::product24_workspace_bytes(config, gpu::current_device()));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  gpu::product24(packed(), products, config, workspace.view(), stream);
  stream.wait();
  workspace.expect_clean();
}

void E4m3Case::expect_packed() {
  const Matrix z = z_.read();
  expect_factors(z);
  specify(z);
  expect_operand();
  const std::vector<float> scale = scale_.read<float>();
  for (std::size_t m = 0; m < scale.size(); ++m) {
    if (std::isnan(spec_scale_[m])) {
      EXPECT_FALSE(std::isfinite(scale[m]) && std::isfinite(factor_[m])) << "row " << m;
    } else if (scale[m] != spec_scale_[m]) {  // which infinities do not
      ASSERT_NEAR(scale[m], spec_scale_[m], 1e-5 * std::fabs(spec_scale_[m])) << "row " << m;
    }
  }
  expect_low();
  for (const DeviceBuffer* buffer : {&factors_, &scale_, &operand_}) {
    EXPECT_TRUE(buffer->guards_intact());
  }
}

void E4m3Case::expect_products(bool exact) {
  const std::vector<float> scale = scale_.read<float>();
  const Matrix low = low_.read();
  specify_products(scale, low);
  for (const auto& own : products_) {
    const Matrix y = own->gpu_y.read();
    const std::vector<float> largest = own->gpu_largest.read<float>();
    for (std::int64_t m = 0; m < tokens_; ++m) {
      float expected = 0.0f;
      for (std::int64_t n = 0; n < own->outputs; ++n) {
        expected = std::max(expected, std::fabs(y.value(m, n)));
      }
      ASSERT_EQ(largest[static_cast<std::size_t>(m)], expected) << "row " << m;
    }
    double error = 0.0, rounding = 0.0, squares = 0.0;
    for (std::int64_t m = 0; m < tokens_; ++m) {
      for (std::int64_t n = 0; n < own->outputs; ++n) {
        const double wanted = own->y.value(m, n), got = y.value(m, n);
        if (exact) {
          ASSERT_EQ(got, wanted) << "row " << m << ", column " << n;
        }
        error += (got - wanted) * (got - wanted);
        rounding += std::pow(unit_at(dtype_, wanted), 2) / 12.0;
        squares += wanted * wanted;
      }
    }
    EXPECT_GT(squares, 0.0);
    // The specification's Y is rounded as well: the two are two roundings apart at most.
    EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding) + kAccumulation * std::sqrt(squares));
    EXPECT_TRUE(own->gpu_y.guards_intact());
  }
}

Product24 E4m3Case::product(std::size_t i, const void* codes, ConstMatrixView up, const void* bias,
                            ConstMatrixView gate, ConstMatrixView residual, MatrixView y) const {
  Product24 product{.weight = contiguous(codes, DType::e4m3, products_[i]->outputs, channels_),
                    .up = up,
                    .low_column = static_cast<std::int64_t>(i) * shape_.rank,
                    .y = y};
  if (!shape_.epilogue) return product;
  product.bias = bias;
  product.activation = Activation::gelu;
  product.gate = gate;
  product.residual = residual;
  return product;
}

ConstMatrixView E4m3Case::values() const {
  return contiguous(static_cast<const void*>(values_.data()), DType::e4m3, tokens_, channels_ / 2);
}

/// Without a transform the bound is of z itself, else of what it transforms.
void E4m3Case::expect_factors(const Matrix& z) {
  factor_ = factors_.read<float>();
  std::vector<float> expected(factor_.size());
  const bool of_z = input_.producer != Producer::norm && input_.transform.empty();
  code_factors(of_z ? Pack24{.x = z.view()} : input_.view(), 1.0f, expected.data());
  for (std::size_t m = 0; m < expected.size(); ++m) {
    if (std::isnan(expected[m])) {
      EXPECT_TRUE(std::isnan(factor_[m])) << "row " << m;
    } else {
      ASSERT_EQ(factor_[m], expected[m]) << "row " << m;
    }
  }
}

void E4m3Case::specify(const Matrix& z) {
  values_.resize(static_cast<std::size_t>(tokens_ * channels_ / 2));
  metadata_.resize(static_cast<std::size_t>(tokens_ * channels_ / 16));
  spec_scale_.resize(static_cast<std::size_t>(tokens_));
  in_parallel(tokens_, [&](std::int64_t m) {
    pack24({.x = slice_rows(z.view(), m, 1),
            .restores_norm = input_.restores_norm,
            .code_factor = factor_.data() + m},
           {.values = contiguous(static_cast<void*>(values_.data() + m * channels_ / 2),
                                 DType::e4m3, 1, channels_ / 2),
            .metadata = metadata_.data() + m * channels_ / 16,
            .scale = spec_scale_.data() + m});
  });
  const Matrix input = input_.transform.empty() ? z : produced_input(input_);
  spec_low_ = low_of(input, input_.down, spec_scale_);
  for (float& scale : spec_scale_) scale *= kWeightUnit;
}

/// To the bit, padding included; that of a token whose factor is NaN is NaN.
void E4m3Case::expect_operand() {
  const std::vector<std::byte> operand = operand_.read();
  std::vector<std::byte> expected(operand.size());
  to_operand24(values(), metadata_.data(), expected.data());
  const bool finite =
      std::none_of(factor_.begin(), factor_.end(), [](float factor) { return std::isnan(factor); });
  if (finite) {
    const auto [wrong, right] = std::mismatch(operand.begin(), operand.end(), expected.begin());
    EXPECT_TRUE(wrong == operand.end())
        << "operand differs at byte " << wrong - operand.begin() << " of " << operand.size();
    return;
  }
  std::vector<std::uint8_t> values(values_.size());
  std::vector<std::uint16_t> metadata(metadata_.size());
  from_operand24(operand.data(),
                 contiguous(static_cast<void*>(values.data()), DType::e4m3, tokens_, channels_ / 2),
                 metadata.data());
  EXPECT_EQ(values, values_);
  EXPECT_EQ(metadata, metadata_);
}

void E4m3Case::expect_low() {
  if (input_.down.rows == 0) return;
  const Matrix low = low_.read();
  double error = 0.0, rounding = 0.0;
  for (std::int64_t m = 0; m < low.rows; ++m) {
    for (std::int64_t r = 0; r < low.columns; ++r) {
      const double wanted = spec_low_[low.index(m, r)];
      if (!std::isfinite(wanted)) continue;
      error += std::pow(low.value(m, r) - wanted, 2);
      rounding += std::pow(unit_at(dtype_, wanted), 2) / 12.0;
    }
  }
  EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding)) << "H / scale";
}

void E4m3Case::specify_products(const std::vector<float>& scale, const Matrix& low) {
  if (specified_) return;
  specified_ = true;
  Matrix own_low = low;
  in_parallel(tokens_, [&](std::int64_t m) {
    float own_scale = scale[static_cast<std::size_t>(m)];
    const Packed24 packed{
        .values = contiguous(static_cast<void*>(values_.data() + m * channels_ / 2), DType::e4m3, 1,
                             channels_ / 2),
        .metadata = metadata_.data() + m * channels_ / 16,
        .scale = &own_scale,
        .low = low.columns > 0 ? slice_rows(own_low.view(), m, 1) : MatrixView{}};
    for (std::size_t i = 0; i < products_.size(); ++i) {
      Product& own = *products_[i];
      const Product24 row =
          product(i, own.codes.data(), own.up.view(), own.bias.data(), own.gate.view(),
                  shape_.epilogue ? slice_rows(std::as_const(own.residual).view(), m, 1)
                                  : ConstMatrixView{},
                  slice_rows(own.y.view(), m, 1));
      product24(packed, {&row, 1});
    }
  });
}

Matrix E4m3Case::y(std::size_t i) const { return products_[i]->gpu_y.read(); }

}  // namespace rtlynx::testing
