// SPDX-License-Identifier: Apache-2.0
#include "gpu/weight_case.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "gpu/parallel.h"
#include "gpu/workspace.h"
#include "kernels/gemm/select.h"
#include "kernels/spec/arguments.h"
#include "rtlynx/operand24.h"

namespace rtlynx::testing {
namespace {

// wgmma adds products of e4m3 with some 13 bits of fraction, cut off (docs/kernels.md).
constexpr double kAccumulation = 0.005;
constexpr double kMostProducts = 4e8;  // of elements that the specification multiplies for a Y
constexpr float kCodeDeviation = 16.0f;

Matrix draw(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed, Values values,
            float deviation) {
  return values == Values::integers ? integer_matrix(dtype, rows, columns, seed, 4)
                                    : normal_matrix(dtype, rows, columns, seed, deviation);
}

/// Rounded to e4m3, which 16 bits hold exactly.
Matrix rounded_to_codes(Matrix matrix) {
  for (std::uint16_t& bits : matrix.elements) {
    bits = narrow(matrix.dtype, to_float(to_e4m3(widen(matrix.dtype, bits))));
  }
  return matrix;
}

/// The bytes of a matrix's elements: of 16 bits, or e4m3.
std::vector<std::byte> bytes_of(const Matrix& matrix, bool codes) {
  if (!codes) {
    const auto* const begin = reinterpret_cast<const std::byte*>(matrix.elements.data());
    return {begin, begin + 2 * matrix.elements.size()};
  }
  std::vector<std::byte> bytes;
  for (const std::uint16_t bits : matrix.elements) {
    bytes.push_back(std::byte{to_e4m3(widen(matrix.dtype, bits)).bits});
  }
  return bytes;
}

/// H. What no product reads is NaN, and may not matter.
Matrix draw_low(DType dtype, const CaseShape& shape, Values values) {
  std::int64_t columns = shape.low_columns;
  for (const ProductShape& product : shape.products) {
    if (shape.rank > 0) columns = std::max(columns, product.low_column + shape.rank);
  }
  Matrix low = draw(dtype, shape.tokens, columns, 2, values, 1.0f);
  for (std::int64_t column = 0; column < columns; ++column) {
    const bool read =
        std::any_of(shape.products.begin(), shape.products.end(), [&](const ProductShape& product) {
          return column >= product.low_column && column < product.low_column + shape.rank;
        });
    if (read) continue;
    for (std::int64_t m = 0; m < low.rows; ++m) low.elements[low.index(m, column)] = 0xffffu;
  }
  return low;
}

}  // namespace

std::vector<gpu::Gemm24Config> weight_configs() {
  std::vector<gpu::Gemm24Config> configs;
  for (const bool stream_k : {false, true}) {
    for (const int cluster : {1, 2}) {
      configs.push_back({.path = gpu::Gemm24Config::Path::sm90,
                         .tile_tokens = gpu::kSm90DenseRows,
                         .tile_outputs = gpu::kSm90SparseRows,
                         .cluster = cluster,
                         .stream_k = stream_k});
    }
  }
  return configs;
}

/// One of the products, on the host and on the GPU.
struct WeightCase::Product {
  Product(DType dtype, const CaseShape& shape, const ProductShape& own, std::uint32_t seed,
          bool codes, Values kind)
      : is(own),
        weight(draw(dtype, own.outputs, shape.channels, seed, kind,
                    codes ? kCodeDeviation : deviation(shape))),
        up(draw(dtype, own.outputs, shape.rank, seed + 1, kind,
                codes ? kCodeDeviation : deviation(shape))),
        bias(uniform(own.outputs, seed + 2, -1.0f, 1.0f)),
        element_bias(normal_matrix(dtype, 1, own.outputs, seed + 2)),
        scale(codes ? uniform(own.outputs, seed + 5, 0.01f, 0.02f) : std::vector<float>{}),
        gate(normal_matrix(dtype, own.gate ? image_of(shape.tokens - 1, shape.image_tokens) + 1 : 0,
                           own.outputs, seed + 3)),
        residual(normal_matrix(dtype, own.residual == Residual::none ? 0 : shape.tokens,
                               own.outputs, seed + 4)),
        values(zeros(dtype, own.outputs, shape.channels / 2)),
        metadata(static_cast<std::size_t>(own.outputs * shape.channels / 16)),
        operand(on_gpu(packed(codes))),
        gpu_up(up, {.gap = own.gap}),
        gpu_bias(on_gpu(bias)),
        gpu_element_bias(element_bias),
        gpu_scale(on_gpu(scale)),
        gpu_gate(gate, {.gap = own.gap}),
        gpu_residual(residual, {.gap = own.gap}),
        gpu_y(dtype, shape.tokens, own.outputs, {.gap = own.gap}),
        expected(zeros(dtype, 0, own.outputs)) {}

  static float deviation(const CaseShape& shape) {
    return 1.0f / std::sqrt(static_cast<float>(shape.channels + shape.rank));
  }

  /// Prunes the weight by magnitude into `values` and `metadata`; returns the operand.
  std::vector<std::byte> packed(bool codes) {
    if (codes) weight = rounded_to_codes(weight);
    compress24(weight.view(), {.values = values.view(), .metadata = metadata.data()});
    code_bytes = bytes_of(values, codes);
    const auto view = values_view(codes);
    std::vector<std::byte> bytes(static_cast<std::size_t>(
        operand24_bytes(is.outputs, weight.columns, codes ? OperandWidth::k8 : OperandWidth::k16)));
    to_operand24(view, metadata.data(), bytes.data());
    return bytes;
  }

  ConstMatrixView values_view(bool codes) const {
    return contiguous(static_cast<const void*>(code_bytes.data()),
                      codes ? DType::e4m3 : values.dtype, values.rows, values.columns);
  }

  ProductShape is;
  Matrix weight, up;
  std::vector<float> bias;
  Matrix element_bias;
  std::vector<float> scale;
  Matrix gate, residual;
  Matrix values;
  std::vector<std::uint16_t> metadata;
  std::vector<std::byte> code_bytes;
  DeviceBuffer operand;
  DeviceMatrix gpu_up;
  DeviceBuffer gpu_bias;
  DeviceMatrix gpu_element_bias;
  DeviceBuffer gpu_scale;
  DeviceMatrix gpu_gate, gpu_residual, gpu_y;
  Matrix expected;  // of the sample's tokens
};

WeightCase::WeightCase(DType dtype, const CaseShape& shape, bool codes, Values values)
    : dtype_(dtype),
      shape_(shape),
      codes_(codes),
      x_(draw(dtype, shape.tokens, shape.channels, 1, values, codes ? kCodeDeviation : 1.0f)),
      low_(draw_low(dtype, shape, values)),
      scale_(codes ? uniform(shape.tokens, 3, 0.01f, 0.02f) : std::vector<float>{}),
      gpu_x_(static_cast<std::size_t>(shape.tokens * shape.channels * (codes ? 1 : 2))),
      gpu_scale_(on_gpu(scale_)),
      gpu_low_(low_, {.gap = shape.low_gap}) {
  if (codes) x_ = rounded_to_codes(x_);
  put_x(x_);
  std::uint32_t seed = 10;
  for (const ProductShape& product : shape.products) {
    products_.push_back(std::make_unique<Product>(dtype, shape, product, seed, codes, values));
    if (values == Values::integers) {
      auto& own = *products_.back();
      std::fill(own.scale.begin(), own.scale.end(), 1.0f);
      own.gpu_scale.write(own.scale.data());
    }
    seed += 10;
  }
  if (values == Values::integers) {
    std::fill(scale_.begin(), scale_.end(), 1.0f);
    gpu_scale_.write(scale_.data());
  }
}

WeightCase::~WeightCase() = default;

void WeightCase::put_x(const Matrix& x) { gpu_x_.write(bytes_of(x, codes_).data()); }

Matrix WeightCase::y(std::size_t product) const { return products_[product]->gpu_y.read(); }

DenseInput24 WeightCase::input() const {
  return {.x = contiguous(static_cast<const void*>(gpu_x_.data()), codes_ ? DType::e4m3 : dtype_,
                          shape_.tokens, shape_.channels),
          .scale = codes_ ? gpu_scale_.floats() : nullptr,
          .low = gpu_low_.view()};
}

std::vector<WeightProduct24> WeightCase::products() const {
  std::vector<WeightProduct24> products;
  for (const auto& own : products_) {
    WeightProduct24 product{.values = own->values_view(codes_),
                            .operand = own->operand.data(),
                            .scale = codes_ ? own->gpu_scale.floats() : nullptr,
                            .up = own->gpu_up.view(),
                            .low_column = own->is.low_column,
                            .activation = own->is.activation,
                            .gate = own->gpu_gate.view(),
                            .image_tokens = shape_.image_tokens,
                            .residual = own->gpu_residual.view(),
                            .y = own->gpu_y.view()};
    if (own->is.bias == Bias::fp32) product.bias = own->gpu_bias.data();
    if (own->is.bias == Bias::elements) {
      product.bias = own->gpu_element_bias.view().data;
      product.bias_dtype = dtype_;
    }
    if (own->is.residual == Residual::in_place) product.residual = product.y;
    products.push_back(product);
  }
  return products;
}

void WeightCase::run(const gpu::Gemm24Config& config) {
  for (const auto& product : products_) {
    if (product->is.residual == Residual::in_place) {
      product->gpu_y.write(product->residual);
    } else {
      product->gpu_y.poison();
    }
  }
  const TestWorkspace workspace(gpu::product24_workspace_bytes(config, gpu::current_device()));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  gpu::weight_product24(input(), products(), config, workspace.view(), stream);
  stream.wait();
  workspace.expect_clean();
}

const std::vector<std::int64_t>& WeightCase::sample() {
  if (!sample_.empty()) return sample_;
  std::int64_t outputs = 0;
  for (const auto& product : products_) outputs += product->is.outputs;
  const double size = static_cast<double>(shape_.tokens) * static_cast<double>(outputs) *
                      static_cast<double>(shape_.channels / 2 + shape_.rank);
  // An odd step, so that all places of a tile come in turn; the last token is always there.
  const auto step = static_cast<std::int64_t>(std::ceil(size / kMostProducts)) | 1;
  for (std::int64_t m = 0; m < shape_.tokens - 1; m += step) sample_.push_back(m);
  sample_.push_back(shape_.tokens - 1);
  return sample_;
}

void WeightCase::specify(Product& own) const {
  own.expected = zeros(dtype_, static_cast<std::int64_t>(sample_.size()), own.is.outputs);
  const std::vector<std::byte> x = bytes_of(x_, codes_);
  const ConstMatrixView tokens = contiguous(static_cast<const void*>(x.data()),
                                            codes_ ? DType::e4m3 : dtype_, x_.rows, x_.columns);
  in_parallel(own.expected.rows, [&](std::int64_t i) {
    const std::int64_t m = sample_[static_cast<std::size_t>(i)];
    const std::int64_t image = image_of(m, shape_.image_tokens);
    WeightProduct24 row{.values = own.values_view(codes_),
                        .metadata = own.metadata.data(),
                        .scale = codes_ ? own.scale.data() : nullptr,
                        .up = std::as_const(own.up).view(),
                        .low_column = own.is.low_column,
                        .activation = own.is.activation,
                        .y = slice_rows(own.expected.view(), i, 1)};
    if (own.is.bias == Bias::fp32) row.bias = own.bias.data();
    if (own.is.bias == Bias::elements) {
      row.bias = own.element_bias.elements.data();
      row.bias_dtype = dtype_;
    }
    if (own.is.gate) row.gate = slice_rows(std::as_const(own.gate).view(), image, 1);
    if (own.residual.rows > 0) row.residual = slice_rows(std::as_const(own.residual).view(), m, 1);
    const ConstMatrixView low = low_.view();
    weight_product24({.x = slice_rows(tokens, m, 1),
                      .scale = codes_ ? scale_.data() + m : nullptr,
                      .low = low.columns > 0 ? slice_rows(low, m, 1) : low},
                     {&row, 1});
  });
}

void WeightCase::expect_close() {
  sample();
  for (const auto& own : products_) {
    if (own->expected.rows == 0) specify(*own);
    const Matrix y = own->gpu_y.read();
    double error = 0.0, rounding = 0.0, squares = 0.0;
    for (std::size_t i = 0; i < sample_.size(); ++i) {
      for (std::int64_t n = 0; n < own->is.outputs; ++n) {
        const double wanted = own->expected.value(static_cast<std::int64_t>(i), n);
        const double got = y.value(sample_[i], n), unit = unit_at(dtype_, wanted);
        ASSERT_TRUE(std::isfinite(got)) << "row " << sample_[i] << ", column " << n;
        error += (got - wanted) * (got - wanted);
        rounding += unit * unit / 12.0;
        squares += wanted * wanted;
      }
    }
    EXPECT_GT(squares, 0.0);
    // The specification's Y is rounded as well: the two are two roundings apart at most.
    const double cut_off = codes_ ? kAccumulation * std::sqrt(squares) : 0.0;
    EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding) + cut_off);
    EXPECT_TRUE(own->gpu_y.guards_intact());
  }
}

void WeightCase::expect_exact() {
  sample();
  for (const auto& own : products_) {
    if (own->expected.rows == 0) specify(*own);
    const Matrix y = own->gpu_y.read();
    for (std::size_t i = 0; i < sample_.size(); ++i) {
      for (std::int64_t n = 0; n < own->is.outputs; ++n) {
        ASSERT_EQ(y.value(sample_[i], n), own->expected.value(static_cast<std::int64_t>(i), n))
            << "row " << sample_[i] << ", column " << n;
      }
    }
    EXPECT_TRUE(own->gpu_y.guards_intact());
  }
}

void WeightCase::expect_close(const std::vector<gpu::Gemm24Config>& configs) {
  for (const gpu::Gemm24Config& config : configs) {
    SCOPED_TRACE(describe(dtype_, shape_) + ", " + gpu::describe(config));
    run(config);
    expect_close();
  }
}

}  // namespace rtlynx::testing
