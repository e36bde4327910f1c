// SPDX-License-Identifier: Apache-2.0
// Packing to e4m3 and products of e4m3, beside the specification.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/half.h"
#include "gpu/host_input.h"
#include "gpu/parallel.h"
#include "gpu/product_case.h"
#include "gpu/workspace.h"
#include "kernels/gemm/select.h"
#include "kernels/pack/pack24.h"
#include "rtlynx/operand24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::DeviceBuffer;
using testing::DeviceMatrix;
using testing::HostInput;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::on_gpu;
using testing::Stream;

constexpr float kWeightUnit = 0x1p-8f;
// wgmma adds products of e4m3 with some 13 bits of fraction, cut off: for K up to 15360 that is
// below half a percent of the outputs' root mean square (docs/kernels.md).
constexpr double kAccumulation = 0.005;

struct E4m3Shape {
  std::vector<std::int64_t> outputs;
  int rank = 0;
  bool integers = false;
  bool epilogue = false;  // bias, GELU, gate and residual
};

/// The configurations that multiply e4m3.
std::vector<Gemm24Config> configs() {
  std::vector<Gemm24Config> configs = testing::all_configs();
  std::erase_if(configs,
                [](const Gemm24Config& config) { return config.path != Gemm24Config::Path::sm90; });
  return configs;
}

/// One weight of e4m3, its part of the low rank and its result.
struct E4m3Product {
  E4m3Product(DType dtype, std::int64_t tokens, std::int64_t channels, std::int64_t n,
              std::uint32_t seed, const E4m3Shape& shape)
      : outputs(n),
        up(testing::normal_matrix(dtype, n, shape.rank, seed + 1, 16.0f)),
        bias(testing::uniform(n, seed + 2, -1.0f, 1.0f)),
        gate(testing::normal_matrix(dtype, shape.epilogue ? 1 : 0, n, seed + 3)),
        residual(testing::normal_matrix(dtype, shape.epilogue ? tokens : 0, n, seed + 4)),
        codes(codes_of(shape.integers ? testing::integer_matrix(dtype, n, channels, seed, 4)
                                      : testing::normal_matrix(dtype, n, channels, seed, 16.0f))),
        gpu_codes(on_gpu(codes)),
        gpu_up(up),
        gpu_bias(on_gpu(bias)),
        gpu_gate(gate),
        gpu_residual(residual),
        gpu_y(dtype, tokens, n),
        gpu_largest(static_cast<std::size_t>(tokens) * sizeof(float)),
        y(testing::zeros(dtype, tokens, n)) {}

  static std::vector<std::uint8_t> codes_of(const Matrix& values) {
    std::vector<std::uint8_t> codes;
    for (const std::uint16_t bits : values.elements) {
      codes.push_back(to_e4m3(testing::widen(values.dtype, bits)).bits);
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

/// An input that is packed to e4m3, and products of it.
class E4m3Case {
 public:
  E4m3Case(HostInput input, E4m3Shape shape)
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
        workspace_(gpu::pack24_workspace_bytes(static_cast<int>(input_.down.rows),
                                               gpu::current_device())) {
    std::uint32_t seed = 10;
    for (const std::int64_t n : shape_.outputs) {
      products_.push_back(
          std::make_unique<E4m3Product>(dtype_, tokens_, channels_, n, seed += 10, shape_));
    }
  }

  Pack24 problem() const {
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
  gpu::PackedInput packed() const {
    return {.dtype = dtype_,
            .width = OperandWidth::k8,
            .tokens = tokens_,
            .channels = channels_,
            .operand = operand_.data(),
            .scale = scale_.floats(),
            .low = low_.view()};
  }

  void pack() {
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

  void multiply(const Gemm24Config& config) {
    std::vector<Product24> products;
    for (std::size_t i = 0; i < products_.size(); ++i) {
      const E4m3Product& own = *products_[i];
      products_[i]->gpu_y.poison();
      products_[i]->gpu_largest.fill(0);
      products.push_back(product(i, own.gpu_codes.data(), own.gpu_up.view(), own.gpu_bias.data(),
                                 own.gpu_gate.view(), own.gpu_residual.view(), own.gpu_y.view()));
    }
    for (std::size_t i = 0; i < products.size(); ++i) {
      products[i].largest = products_[i]->gpu_largest.floats();
    }
    const testing::TestWorkspace workspace(
        gpu::product24_workspace_bytes(config, gpu::current_device()));
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const Stream stream;
    gpu::product24(packed(), products, config, workspace.view(), stream);
    stream.wait();
    workspace.expect_clean();
  }

  /// Factors, operand, scale and low are the specification's of the z that the kernel saw.
  void expect_packed() {
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

  /// Y is near the specification's of what the kernel packed.
  void expect_products(bool exact) {
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
          if (exact) ASSERT_EQ(got, wanted) << "row " << m << ", column " << n;
          error += (got - wanted) * (got - wanted);
          rounding += std::pow(testing::unit_at(dtype_, wanted), 2) / 12.0;
          squares += wanted * wanted;
        }
      }
      EXPECT_GT(squares, 0.0);
      // The specification's Y is rounded as well: the two are two roundings apart at most.
      EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding) + kAccumulation * std::sqrt(squares));
      EXPECT_TRUE(own->gpu_y.guards_intact());
    }
  }

  std::vector<std::byte> operand() const { return operand_.read(); }
  std::vector<float> scale() const { return scale_.read<float>(); }
  Matrix y(std::size_t i) const { return products_[i]->gpu_y.read(); }

 private:
  Product24 product(std::size_t i, const void* codes, ConstMatrixView up, const void* bias,
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

  ConstMatrixView values() const {
    return contiguous(static_cast<const void*>(values_.data()), DType::e4m3, tokens_,
                      channels_ / 2);
  }

  /// Without a transform the bound is of z itself, else of what it transforms.
  void expect_factors(const Matrix& z) {
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

  void specify(const Matrix& z) {
    values_.resize(static_cast<std::size_t>(tokens_ * channels_ / 2));
    metadata_.resize(static_cast<std::size_t>(tokens_ * channels_ / 16));
    spec_scale_.resize(static_cast<std::size_t>(tokens_));
    spec_low_ = testing::zeros(dtype_, tokens_, input_.down.rows);
    testing::in_parallel(tokens_, [&](std::int64_t m) {
      pack24({.x = slice_rows(z.view(), m, 1),
              .restores_norm = input_.restores_norm,
              .code_factor = factor_.data() + m,
              .weight_unit = kWeightUnit,
              .down = input_.down.view()},
             {.values = contiguous(static_cast<void*>(values_.data() + m * channels_ / 2),
                                   DType::e4m3, 1, channels_ / 2),
              .metadata = metadata_.data() + m * channels_ / 16,
              .scale = spec_scale_.data() + m,
              .low = input_.down.rows > 0 ? slice_rows(spec_low_.view(), m, 1) : MatrixView{}});
    });
  }

  /// To the bit, padding included; that of a token whose factor is NaN is NaN.
  void expect_operand() {
    const std::vector<std::byte> operand = operand_.read();
    std::vector<std::byte> expected(operand.size());
    to_operand24(values(), metadata_.data(), expected.data());
    const bool finite = std::none_of(factor_.begin(), factor_.end(),
                                     [](float factor) { return std::isnan(factor); });
    if (finite) {
      const auto [wrong, right] = std::mismatch(operand.begin(), operand.end(), expected.begin());
      EXPECT_TRUE(wrong == operand.end())
          << "operand differs at byte " << wrong - operand.begin() << " of " << operand.size();
      return;
    }
    std::vector<std::uint8_t> values(values_.size());
    std::vector<std::uint16_t> metadata(metadata_.size());
    from_operand24(
        operand.data(),
        contiguous(static_cast<void*>(values.data()), DType::e4m3, tokens_, channels_ / 2),
        metadata.data());
    EXPECT_EQ(values, values_);
    EXPECT_EQ(metadata, metadata_);
  }

  void expect_low() {
    if (input_.down.rows == 0) return;
    const Matrix low = low_.read();
    double error = 0.0, rounding = 0.0;
    for (std::int64_t m = 0; m < low.rows; ++m) {
      for (std::int64_t r = 0; r < low.columns; ++r) {
        const double wanted = spec_low_.value(m, r);
        if (!std::isfinite(wanted)) continue;
        error += std::pow(low.value(m, r) - wanted, 2);
        rounding += std::pow(testing::unit_at(dtype_, wanted), 2) / 12.0;
      }
    }
    EXPECT_LE(std::sqrt(error), 2.0 * std::sqrt(rounding)) << "H / scale";
  }

  void specify_products(const std::vector<float>& scale, const Matrix& low) {
    if (specified_) return;
    specified_ = true;
    Matrix own_low = low;
    testing::in_parallel(tokens_, [&](std::int64_t m) {
      float own_scale = scale[static_cast<std::size_t>(m)];
      const Packed24 packed{
          .values = contiguous(static_cast<void*>(values_.data() + m * channels_ / 2), DType::e4m3,
                               1, channels_ / 2),
          .metadata = metadata_.data() + m * channels_ / 16,
          .scale = &own_scale,
          .low = low.columns > 0 ? slice_rows(own_low.view(), m, 1) : MatrixView{}};
      for (std::size_t i = 0; i < products_.size(); ++i) {
        E4m3Product& own = *products_[i];
        const Product24 row =
            product(i, own.codes.data(), own.up.view(), own.bias.data(), own.gate.view(),
                    shape_.epilogue ? slice_rows(std::as_const(own.residual).view(), m, 1)
                                    : ConstMatrixView{},
                    slice_rows(own.y.view(), m, 1));
        product24(packed, {&row, 1});
      }
    });
  }

  HostInput input_;
  E4m3Shape shape_;
  DType dtype_;
  std::int64_t tokens_, channels_;
  DeviceMatrix x_, tail_, up_, modulation_scale_, modulation_shift_, down_;
  DeviceBuffer moments_, weight_, transform_, factors_, scale_, operand_;
  DeviceMatrix low_, z_;
  testing::TestWorkspace workspace_;
  std::vector<std::unique_ptr<E4m3Product>> products_;
  std::vector<float> factor_, spec_scale_;
  std::vector<std::uint8_t> values_;
  std::vector<std::uint16_t> metadata_;
  Matrix spec_low_;
  bool specified_ = false;
};

class E4m3GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  void SetUp() override {
    NarrowTypeGpuTest::SetUp();
    if (!IsSkipped() && gpu::current_device().compute_capability != 90) {
      GTEST_SKIP() << "e4m3 runs on compute capability 9.0";
    }
  }
  static HostInput input(Producer producer, std::int64_t tokens, std::int64_t channels,
                         std::int64_t low_columns = 0) {
    return testing::random_input(GetParam(), producer, tokens, channels, low_columns);
  }
  static void expect_all(HostInput input, const E4m3Shape& shape) {
    SCOPED_TRACE("M " + std::to_string(input.tokens()) + ", K " + std::to_string(input.channels()) +
                 ", producer " + std::to_string(static_cast<int>(input.producer)) + ", rank " +
                 std::to_string(shape.rank));
    E4m3Case product(std::move(input), shape);
    product.pack();
    product.expect_packed();
    for (const Gemm24Config& config : configs()) {
      SCOPED_TRACE(gpu::describe(config));
      product.multiply(config);
      product.expect_products(shape.integers);
    }
  }
};

constexpr Producer kProducers[] = {Producer::none, Producer::gelu, Producer::swiglu,
                                   Producer::norm};

TEST_P(E4m3GpuTest, RaggedShapesOfEveryProducer) {
  for (const Producer producer : kProducers) {
    for (const auto& [tokens, channels] : {std::pair<std::int64_t, std::int64_t>{1, 16},
                                           {63, 64},
                                           {65, 80},
                                           {130, 208},
                                           {301, 1040}}) {
      expect_all(input(producer, tokens, channels), {.outputs = {264}});
    }
  }
}

TEST_P(E4m3GpuTest, LowRankBesideSeveralWeights) {
  for (const Producer producer : kProducers) {
    expect_all(input(producer, 300, 400, 192), {.outputs = {264, 8, 520}, .rank = 64});
  }
  expect_all(input(Producer::none, 130, 80, 64), {.outputs = {136, 40, 256, 392}, .rank = 16});
}

TEST_P(E4m3GpuTest, EveryEpilogue) {
  expect_all(input(Producer::norm, 300, 208, 48), {.outputs = {520}, .rank = 48, .epilogue = true});
}

TEST_P(E4m3GpuTest, TransformsBeforeTheChoice) {
  for (const int block : {64, 128}) {
    for (const Producer producer : {Producer::none, Producer::gelu, Producer::norm}) {
      HostInput transformed = input(producer, 130, 384, 64);
      add_transform(transformed, block);
      expect_all(transformed, {.outputs = {264}, .rank = 64});
    }
  }
}

TEST_P(E4m3GpuTest, LimitsStandInForReading) {
  const std::int64_t tokens = 301;
  const std::vector<float> limits = testing::uniform(tokens, 1, 0.0f, 900.0f);
  const std::vector<float> tail_limits = testing::uniform(tokens, 2, 0.0f, 900.0f);
  const DeviceBuffer gpu_limits = on_gpu(limits), gpu_tail_limits = on_gpu(tail_limits);
  HostInput host = input(Producer::none, tokens, 256);
  host.tail = testing::normal_matrix(GetParam(), tokens, 80, 3, 200.0f);
  const E4m3Case device(host, {});
  for (const auto& [of_x, of_tail] : {std::pair{true, true}, {true, false}, {false, true}}) {
    Pack24 own = device.problem(), specified = host.view();
    if (of_x) own.limit = gpu_limits.floats(), specified.limit = limits.data();
    if (of_tail)
      own.tail_limit = gpu_tail_limits.floats(), specified.tail_limit = tail_limits.data();
    const DeviceBuffer factors(static_cast<std::size_t>(tokens) * sizeof(float));
    std::vector<float> expected(static_cast<std::size_t>(tokens));
    gpu::code_factors(own, 1.0f, factors.floats(), nullptr);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    code_factors(specified, 1.0f, expected.data());
    EXPECT_EQ(factors.read<float>(), expected);
  }
}

TEST_P(E4m3GpuTest, LongProducts) {
  expect_all(input(Producer::gelu, 256, 15360, 64), {.outputs = {512}, .rank = 64});
}

TEST_P(E4m3GpuTest, SmallIntegersAreExact) {
  for (const auto& [tokens, outputs, channels] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{300, 1000, 1040},
        {65, 264, 80},
        {1, 8, 16},
        {2000, 520, 512}}) {
    HostInput integers{.x = testing::integer_matrix(GetParam(), tokens, channels, 1, 4)};
    integers.restores_norm = false;
    expect_all(integers, {.outputs = {outputs}, .integers = true});
  }
}

TEST_P(E4m3GpuTest, HardRowsArePackedAsSpecified) {
  for (int first_kind = 0; first_kind < 8; ++first_kind) {
    E4m3Case product({.x = testing::hard_rows(GetParam(), 65, 144, first_kind)}, {.outputs = {8}});
    product.pack();
    product.expect_packed();
  }
}

TEST_P(E4m3GpuTest, TheSameBitsEveryTime) {
  E4m3Case product(input(Producer::norm, 700, 3072, 64), {.outputs = {1160}, .rank = 64});
  const Gemm24Config config = configs().back();
  product.pack();
  product.multiply(config);
  const auto operand = product.operand();
  const auto scale = product.scale();
  const auto y = product.y(0).elements;
  product.pack();
  product.multiply(config);
  EXPECT_EQ(product.operand(), operand);
  EXPECT_EQ(product.scale(), scale);
  EXPECT_EQ(product.y(0).elements, y);
}

// 64 tokens alone and among others: the factors are powers of two of each token's own.
TEST_P(E4m3GpuTest, ATokenDoesNotDependOnTheOthers) {
  const HostInput all = input(Producer::gelu, 128, 1024);
  HostInput half = all;
  half.x.rows = 64;
  half.x.elements.resize(64 * 1024);
  E4m3Case whole(all, {.outputs = {520}}), part(half, {.outputs = {520}});
  for (const Gemm24Config& config : configs()) {
    if (config.stream_k) continue;
    whole.pack();
    part.pack();
    whole.multiply(config);
    part.multiply(config);
    const auto y = whole.y(0).elements, own = part.y(0).elements;
    EXPECT_TRUE(std::equal(own.begin(), own.end(), y.begin()));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, E4m3GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
