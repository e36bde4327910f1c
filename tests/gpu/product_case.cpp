// SPDX-License-Identifier: Apache-2.0
#include "gpu/product_case.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <random>

#include "gpu/parallel.h"
#include "gpu/workspace.h"
#include "kernels/gemm/select.h"
#include "kernels/spec/arguments.h"
#include "rtlynx/operand24.h"

namespace rtlynx::testing {
namespace {

constexpr int kLargestInteger = 4;
constexpr std::size_t kTileGuard = std::size_t{1} << 20;  // a tile of rows beyond the last
constexpr double kMostProducts = 5e7;  // of elements that the specification multiplies for a Y

std::size_t count(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

/// Out of every `apart` neighbours one, at random.
std::vector<std::int64_t> draw_some(std::int64_t size, std::int64_t apart, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int64_t> drawn;
  for (std::int64_t first = 0; first < size; first += apart) {
    const std::int64_t among = std::min(apart, size - first);
    drawn.push_back(first + static_cast<std::int64_t>(random()) % among);
  }
  return drawn;
}

/// A matrix of fp32 that owns its elements.
struct WideMatrix {
  WideMatrix() = default;
  WideMatrix(std::int64_t wide_rows, std::int64_t wide_columns)
      : rows(wide_rows), columns(wide_columns), data(count(wide_rows, wide_columns)) {}

  float* row(std::int64_t m) { return data.data() + m * columns; }
  ConstMatrixView view() const {
    return contiguous(static_cast<const void*>(data.data()), DType::f32, rows, columns);
  }
  MatrixView view() {
    return contiguous(static_cast<void*>(data.data()), DType::f32, rows, columns);
  }

  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<float> data = {};
};

WideMatrix some_rows(const Matrix& matrix, const std::vector<std::int64_t>& rows) {
  WideMatrix result(static_cast<std::int64_t>(rows.size()), matrix.columns);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float* const target = result.row(static_cast<std::int64_t>(i));
    for (std::int64_t k = 0; k < matrix.columns; ++k) target[k] = matrix.value(rows[i], k);
  }
  return result;
}

WideMatrix some_elements(const Matrix& matrix, const std::vector<std::int64_t>& rows,
                         const std::vector<std::int64_t>& columns) {
  WideMatrix result(static_cast<std::int64_t>(rows.size()),
                    static_cast<std::int64_t>(columns.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float* const target = result.row(static_cast<std::int64_t>(i));
    for (std::size_t k = 0; k < columns.size(); ++k) target[k] = matrix.value(rows[i], columns[k]);
  }
  return result;
}

ConstMatrixView row_if_there(ConstMatrixView matrix, std::int64_t row) {
  return matrix.rows > 0 ? slice_rows(matrix, row, 1) : matrix;
}

Matrix draw(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed, Values values,
            float deviation) {
  return values == Values::integers ? integer_matrix(dtype, rows, columns, seed, kLargestInteger)
                                    : normal_matrix(dtype, rows, columns, seed, deviation);
}

std::int64_t low_columns_of(const CaseShape& shape) {
  std::int64_t columns = shape.low_columns;
  for (const ProductShape& product : shape.products) {
    if (shape.rank > 0) columns = std::max(columns, product.low_column + shape.rank);
  }
  return columns;
}

/// H / s. What no product reads is NaN, and may not matter.
Matrix draw_low(DType dtype, const CaseShape& shape, Values values) {
  Matrix low = draw(dtype, shape.tokens, low_columns_of(shape), 2, values, 1.0f);
  for (std::int64_t column = 0; column < low.columns; ++column) {
    const auto reads = [&](const ProductShape& product) {
      return column >= product.low_column && column < product.low_column + shape.rank;
    };
    if (std::any_of(shape.products.begin(), shape.products.end(), reads)) continue;
    for (std::int64_t m = 0; m < low.rows; ++m) low.elements[low.index(m, column)] = 0xffffu;
  }
  return low;
}

}  // namespace

std::vector<gpu::Gemm24Config> all_configs() {
  using Path = gpu::Gemm24Config::Path;
  std::vector<gpu::Gemm24Config> configs{{.path = Path::sm80}};
  if (gpu::current_device().compute_capability != 90) return configs;
  for (const bool stream_k : {false, true}) {
    for (const int cluster : {1, 2}) {
      configs.push_back({.path = Path::sm90,
                         .tile_tokens = gpu::kSm90TileTokens,
                         .tile_outputs = gpu::kSm90TileOutputs,
                         .cluster = cluster,
                         .stream_k = stream_k});
    }
  }
  return configs;
}

std::vector<gpu::Gemm24Config> stream_k_configs() {
  std::vector<gpu::Gemm24Config> configs = all_configs();
  std::erase_if(configs, [](const gpu::Gemm24Config& config) { return !config.stream_k; });
  return configs;
}

CaseShape single(std::int64_t tokens, std::int64_t outputs, std::int64_t channels, int rank) {
  return {.tokens = tokens, .channels = channels, .rank = rank, .products = {{.outputs = outputs}}};
}

std::string describe(DType dtype, const CaseShape& shape) {
  std::string text = std::string(name_of(dtype)) + " M " + std::to_string(shape.tokens) + ", K " +
                     std::to_string(shape.channels) + ", rank " + std::to_string(shape.rank) +
                     ", N";
  for (const ProductShape& product : shape.products) {
    text.append(" ").append(std::to_string(product.outputs));
  }
  return text;
}

/// The packed input on the host.
struct ProductCase::HostPacked {
  Matrix values;
  std::vector<std::uint16_t> metadata;
};

/// Some elements of Y by the specification, in fp32.
struct ProductCase::Sample {
  std::vector<std::int64_t> tokens, outputs;
  WideMatrix expected;
};

/// One of the products, on the host and on the GPU.
struct ProductCase::Product {
  Product(DType dtype, const CaseShape& shape, const ProductShape& own, std::uint32_t seed,
          Values values)
      : is(own),
        weight(draw(dtype, own.outputs, shape.channels, seed, values, deviation(shape))),
        up(draw(dtype, own.outputs, shape.rank, seed + 1, values, deviation(shape))),
        bias(uniform(own.outputs, seed + 2, -1.0f, 1.0f)),
        element_bias(normal_matrix(dtype, 1, own.outputs, seed + 2)),
        gate(normal_matrix(dtype, own.gate ? images(shape) : 0, own.outputs, seed + 3)),
        residual(normal_matrix(dtype, own.residual == Residual::none ? 0 : shape.tokens,
                               own.outputs, seed + 4)),
        gpu_weight(weight, {.gap = own.gap, .guard_after = kTileGuard}),
        gpu_up(up, {.gap = own.gap, .guard_after = kTileGuard}),
        gpu_bias(on_gpu(bias)),
        gpu_element_bias(element_bias),
        gpu_gate(gate, {.gap = own.gap}),
        gpu_residual(residual, {.gap = own.gap}),
        gpu_y(dtype, shape.tokens, own.outputs, {.gap = own.gap}) {}

  static float deviation(const CaseShape& shape) {
    return 1.0f / std::sqrt(static_cast<float>(shape.channels + shape.rank));
  }
  static std::int64_t images(const CaseShape& shape) {
    return image_of(shape.tokens - 1, shape.image_tokens) + 1;
  }

  float bias_at(std::int64_t n) const {
    return is.bias == Bias::fp32 ? bias[static_cast<std::size_t>(n)] : element_bias.value(0, n);
  }

  ProductShape is;
  Matrix weight, up;
  std::vector<float> bias;
  Matrix element_bias, gate, residual;
  DeviceMatrix gpu_weight, gpu_up;
  DeviceBuffer gpu_bias;
  DeviceMatrix gpu_element_bias, gpu_gate, gpu_residual, gpu_y;
  std::optional<Sample> sample;
};

ProductCase::ProductCase(DType dtype, const CaseShape& shape, Values values)
    : dtype_(dtype),
      shape_(shape),
      x_(draw(dtype, shape.tokens, shape.channels, 1, values, 1.0f)),
      low_(draw_low(dtype, shape, values)),
      scale_(uniform(shape.tokens, 3, 1.0f, values == Values::integers ? 1.0f : 1.4f)),
      host_(std::make_unique<HostPacked>()),
      operand_(static_cast<std::size_t>(operand24_bytes(shape.tokens, shape.channels))),
      gpu_scale_(on_gpu(scale_)),
      gpu_low_(low_, {.gap = shape.low_gap}) {
  pack(x_, *host_);
  put_x(x_);
  for (const ProductShape& product : shape.products) {
    const auto seed = static_cast<std::uint32_t>(10 * (products_.size() + 1));
    products_.push_back(std::make_unique<Product>(dtype, shape, product, seed, values));
  }
}

ProductCase::~ProductCase() = default;

void ProductCase::pack(const Matrix& x, HostPacked& packed) const {
  packed.values = zeros(dtype_, x.rows, x.columns / 2);
  packed.metadata.resize(count(x.rows, x.columns) / 16);
  in_parallel(x.rows, [&](std::int64_t m) {
    compress24(slice_rows(x.view(), m, 1),
               {.values = slice_rows(packed.values.view(), m, 1),
                .metadata = packed.metadata.data() + m * (x.columns / 16)});
  });
}

void ProductCase::put_x(const Matrix& x) {
  HostPacked packed;
  pack(x, packed);
  std::vector<std::byte> operand(operand_.size());
  to_operand24(packed.values.view(), packed.metadata.data(), operand.data());
  operand_.write(operand.data());
}

void ProductCase::put_weight(std::size_t product, const Matrix& weight) {
  products_[product]->gpu_weight.write(weight);
}
void ProductCase::put_up(std::size_t product, const Matrix& up) {
  products_[product]->gpu_up.write(up);
}

void ProductCase::replace_weight(std::size_t product, const Matrix& weight) {
  products_[product]->weight = weight;
  products_[product]->sample.reset();
  put_weight(product, weight);
}

const Matrix& ProductCase::weight(std::size_t product) const { return products_[product]->weight; }
const Matrix& ProductCase::up(std::size_t product) const { return products_[product]->up; }
Matrix ProductCase::y(std::size_t product) const { return products_[product]->gpu_y.read(); }

gpu::PackedInput ProductCase::packed() const {
  return {.dtype = dtype_,
          .tokens = shape_.tokens,
          .channels = shape_.channels,
          .operand = operand_.data(),
          .scale = gpu_scale_.floats(),
          .low = gpu_low_.view()};
}

std::vector<Product24> ProductCase::products() const {
  std::vector<Product24> products;
  for (const auto& own : products_) {
    Product24 product{.weight = own->gpu_weight.view(),
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

void ProductCase::run(const gpu::Gemm24Config& config) {
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
  gpu::product24(packed(), products(), config, workspace.view(), stream);
  stream.wait();
  workspace.expect_clean();
}

/// The rows and columns of the sample make a small problem of their own, of fp32 operands: its
/// result is what Y rounds.
const ProductCase::Sample& ProductCase::sample_of(Product& product) {
  if (product.sample) return *product.sample;
  const std::int64_t depth = shape_.channels / 2 + shape_.rank;
  const double size = static_cast<double>(shape_.tokens) * static_cast<double>(product.is.outputs) *
                      static_cast<double>(depth);
  // Tiles have 64 tokens and outputs, or more.
  const auto apart =
      static_cast<std::int64_t>(std::clamp(std::ceil(std::sqrt(size / kMostProducts)), 1.0, 32.0));
  const auto tokens = draw_some(shape_.tokens, apart, 1);
  const auto outputs = draw_some(product.is.outputs, apart, 2);

  WideMatrix values = some_rows(host_->values, tokens), low = some_rows(low_, tokens);
  const WideMatrix weight = some_rows(product.weight, outputs), up = some_rows(product.up, outputs);
  std::vector<float> bias;
  for (const std::int64_t n : outputs) bias.push_back(product.bias_at(n));
  std::vector<std::int64_t> images;
  for (const std::int64_t m : tokens) images.push_back(image_of(m, shape_.image_tokens));
  WideMatrix gate, residual;
  if (product.is.gate) gate = some_elements(product.gate, images, outputs);
  if (product.residual.rows > 0) residual = some_elements(product.residual, tokens, outputs);
  WideMatrix expected(static_cast<std::int64_t>(tokens.size()),
                      static_cast<std::int64_t>(outputs.size()));

  in_parallel(expected.rows, [&](std::int64_t i) {
    const std::int64_t m = tokens[static_cast<std::size_t>(i)];
    const Packed24 packed{.values = slice_rows(values.view(), i, 1),
                          .metadata = host_->metadata.data() + m * (shape_.channels / 16),
                          .scale = scale_.data() + m,
                          .low = slice_rows(low.view(), i, 1)};
    const Product24 row{.weight = weight.view(),
                        .up = up.view(),
                        .low_column = product.is.low_column,
                        .bias = product.is.bias == Bias::none ? nullptr : bias.data(),
                        .activation = product.is.activation,
                        .gate = row_if_there(gate.view(), i),
                        .residual = row_if_there(residual.view(), i),
                        .y = slice_rows(expected.view(), i, 1)};
    product24(packed, {&row, 1});
  });
  product.sample = Sample{tokens, outputs, std::move(expected)};
  return *product.sample;
}

void ProductCase::expect_close() {
  for (std::size_t i = 0; i < products_.size(); ++i) {
    SCOPED_TRACE("product " + std::to_string(i));
    const Sample& sample = sample_of(*products_[i]);
    const Matrix y = this->y(i);
    double error_squares = 0.0, rounding_squares = 0.0;
    double largest_error = 0.0, largest_rounding = 0.0;
    auto next = sample.expected.data.begin();
    for (const std::int64_t m : sample.tokens) {
      for (const std::int64_t n : sample.outputs) {
        const double exact = *next++;
        const double rounded = widen(dtype_, narrow(dtype_, static_cast<float>(exact)));
        const double error = std::fabs(y.value(m, n) - exact);
        const double rounding = std::fabs(rounded - exact);
        ASSERT_TRUE(std::isfinite(error)) << "row " << m << ", column " << n;
        error_squares += error * error;
        rounding_squares += rounding * rounding;
        largest_error = std::max(largest_error, error);
        largest_rounding = std::max(largest_rounding, rounding);
      }
    }
    EXPECT_GT(rounding_squares, 0.0);
    EXPECT_LE(std::sqrt(error_squares), 2.0 * std::sqrt(rounding_squares));
    EXPECT_LE(largest_error, 2.0 * largest_rounding);
  }
  expect_guards();
}

void ProductCase::expect_exact() {
  for (std::size_t i = 0; i < products_.size(); ++i) {
    SCOPED_TRACE("product " + std::to_string(i));
    const Sample& sample = sample_of(*products_[i]);
    const Matrix y = this->y(i);
    auto next = sample.expected.data.begin();
    for (const std::int64_t m : sample.tokens) {
      for (const std::int64_t n : sample.outputs) {
        const float rounded = widen(dtype_, narrow(dtype_, *next++));
        ASSERT_EQ(y.value(m, n), rounded) << "row " << m << ", column " << n;  // 0 may be -0
      }
    }
  }
  expect_guards();
}

void ProductCase::expect_close(const std::vector<gpu::Gemm24Config>& configs) {
  for (const gpu::Gemm24Config& config : configs) {
    SCOPED_TRACE(describe(dtype_, shape_) + ", " + gpu::describe(config));
    run(config);
    expect_close();
  }
}

void ProductCase::expect_guards() const {
  for (const auto& product : products_) EXPECT_TRUE(product->gpu_y.guards_intact());
}

}  // namespace rtlynx::testing
