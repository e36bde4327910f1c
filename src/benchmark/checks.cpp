// SPDX-License-Identifier: Apache-2.0
#include "benchmark/checks.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>

#include "base/half.h"
#include "rtlynx/operand24.h"
#include "rtlynx/rows.h"

namespace rtlynx::benchmark {
namespace {

constexpr double kScaleTolerance = 1e-5;
constexpr int kNan = 0xff;  // bytes of a NaN in every type here

// Two roundings of fp32 values that hardly differ.
double rounding_of(DType dtype) { return dtype == DType::f16 ? 0x1p-11 : 0x1p-8; }

std::vector<std::byte> fetch(const void* device, std::size_t bytes) {
  std::vector<std::byte> host(bytes);
  check_cuda(cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost), "copy to the host");
  return host;
}

/// A row of a matrix of 16-bit elements in device memory, on the host. No row without a matrix.
class HostRow {
 public:
  HostRow(ConstMatrixView matrix, std::int64_t row) : dtype_(matrix.dtype) {
    if (matrix.rows == 0) return;
    const std::int64_t bytes = matrix.columns * size_of(dtype_);
    bytes_ = fetch(static_cast<const std::byte*>(matrix.data) + row * bytes,
                   static_cast<std::size_t>(bytes));
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  ConstMatrixView view() const {
    const auto columns = static_cast<std::int64_t>(bytes_.size()) / size_of(dtype_);
    return contiguous(static_cast<const void*>(bytes_.data()), dtype_, columns > 0 ? 1 : 0,
                      columns);
  }
  std::vector<double> values() const { return values_of(view()); }

  static std::vector<double> values_of(ConstMatrixView row) {
    std::vector<double> values;
    with_element_type(row.dtype, [&](auto element) {
      const auto* const elements = static_cast<const decltype(element)*>(row.data);
      for (std::int64_t i = 0; i < row.columns; ++i) values.push_back(to_float(elements[i]));
    });
    return values;
  }

 private:
  DType dtype_;
  std::vector<std::byte> bytes_;
};

/// One row of what the device packs, as the specification makes it: z, and what selection leaves.
struct SpecifiedRow {
  std::vector<double> z, kept;
};

SpecifiedRow specified_row(const Pack24& on_device, std::int64_t row) {
  const HostRow x(on_device.x, row), up(on_device.up, row);
  const HostRow scale(on_device.modulation_scale, 0), shift(on_device.modulation_shift, 0);
  float moments[2] = {};
  if (on_device.producer == Producer::norm) rtlynx::moments({.x = x.view(), .moments = moments});
  const Pack24 input{.x = x.view(),
                     .producer = on_device.producer,
                     .up = up.view(),
                     .moments = moments,
                     .modulation_scale = scale.view(),
                     .modulation_shift = shift.view()};
  std::vector<std::byte> z(x.bytes().size()), kept(x.bytes().size());
  const ConstMatrixView shape = x.view();
  const MatrixView z_view = contiguous(static_cast<void*>(z.data()), shape.dtype, 1, shape.columns);
  const MatrixView kept_view =
      contiguous(static_cast<void*>(kept.data()), shape.dtype, 1, shape.columns);
  produce24(input, z_view);
  sparsify24(z_view, kept_view, nullptr);
  return {HostRow::values_of(z_view), HostRow::values_of(kept_view)};
}

double square(double value) { return value * value; }

}  // namespace

ShapeChecks::ShapeChecks(const Contenders& contenders, std::uint64_t seed, cudaStream_t stream)
    : contenders_(contenders),
      problem_(contenders.problem),
      stream_(stream),
      sampler_(problem_.shape().tokens, problem_.shape().all_outputs(), problem_.dtype(), seed) {
  problem_.pack(0, {.low_rank = true}, stream_);
  expand_operand();
  const OperandSet& operands = problem_.set(0);
  const SampledProduct dense{.a = operands.dense.data(),
                             .weight = operands.weight.data(),
                             .channels = problem_.shape().channels};
  const std::vector<double> baseline =
      contenders_.dense == nullptr ? sampler_.plain(dense, stream_) : result_of([&] {
        contenders_.dense->run(dense.a, dense.weight, operands.y.data(), stream_);
      });
  allowed_ = 2 * relative_error(baseline, sampler_.exact(dense, stream_));
  exact_ = sampler_.exact(product(/*low_rank=*/false), stream_);
}

std::vector<Check> ShapeChecks::check_all(bool with_fused) {
  check_rows();
  if (contenders_.packs_gemm()) check_gemm(contenders_.gemm.config, "gemm");
  if (contenders_.packs_linear()) check_linear("linear", /*produced=*/false);
  if (contenders_.dense_bias != nullptr) check_dense_bias();
  if (contenders_.sparse != nullptr) check_sparse();
  if (with_fused) {
    check_produced();
    if (contenders_.packs_linear()) check_linear("fused linear", /*produced=*/true);
    problem_.pack(0, {.low_rank = true}, stream_);  // as the other checks left it
  }
  return checks_;
}

// X~ of set 0 into `dense`, by way of the host: what a kernel reads is what it is judged by.
void ShapeChecks::expand_operand() {
  const OperandSet& operands = problem_.set(0);
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  check_cuda(cudaStreamSynchronize(stream_), "pack24");
  const std::vector<std::byte> operand = fetch(operands.operand.data(), operands.operand.bytes());
  std::vector<std::byte> values(operands.dense.bytes() / 2), dense(operands.dense.bytes());
  std::vector<std::uint16_t> metadata(static_cast<std::size_t>(tokens * channels / 16));
  const MatrixView kept =
      contiguous(static_cast<void*>(values.data()), problem_.dtype(), tokens, channels / 2);
  from_operand24(operand.data(), kept, metadata.data());
  expand24(kept, metadata.data(),
           contiguous(static_cast<void*>(dense.data()), problem_.dtype(), tokens, channels));
  check_cuda(cudaMemcpy(operands.dense.data(), dense.data(), dense.size(), cudaMemcpyHostToDevice),
             "copy to the device");
}

SampledProduct ShapeChecks::product(bool low_rank) const {
  const OperandSet& operands = problem_.set(0);
  SampledProduct product{.a = operands.dense.data(),
                         .weight = operands.weight.data(),
                         .channels = problem_.shape().channels,
                         .scale = operands.scale.as<float>()};
  if (!low_rank) return product;
  product.low = operands.low.data();
  product.low_columns = problem_.low_columns();
  product.up = problem_.up();
  product.rank = kRank;
  product.bias = problem_.bias();
  std::int64_t end = 0;
  std::size_t weight = 0;
  for (const std::int64_t outputs : problem_.shape().outputs) {
    product.ends[weight++] = end += outputs;
  }
  return product;
}

Check ShapeChecks::check_gemm(const gpu::Gemm24Config& config, const std::string& contender) {
  const std::vector<double> y = result_of([&] {
    problem_.pack(0, {.low_rank = true}, stream_);  // timing left something else
    problem_.product(0, config, /*low_rank=*/false, stream_);
  });
  return record(contender, relative_error(y, exact_), allowed_);
}

// Whole rows against the specification, which the sampled products, made of the kernel's own X~ and
// scale, cannot see.
void ShapeChecks::check_rows() {
  const OperandSet& operands = problem_.set(0);
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  const auto matrix = [&](const DeviceBuffer& buffer) {
    return contiguous(buffer.as<const void>(), problem_.dtype(), tokens, channels);
  };
  double worst = 0;
  for (const std::int64_t row : sampler_.rows()) {
    const HostRow x(matrix(operands.x), row), kept(matrix(operands.dense), row);
    std::vector<std::byte> expected(x.bytes().size());
    float expected_scale = 0, scale = 0;
    sparsify24(x.view(),
               contiguous(static_cast<void*>(expected.data()), problem_.dtype(), 1, channels),
               &expected_scale);
    if (kept.bytes() != expected) {
      throw WrongResult(fmt::format("{}, pack: required the specified bits in row {}, got others",
                                    problem_.shape().name, row));
    }
    check_cuda(
        cudaMemcpy(&scale, operands.scale.as<float>() + row, sizeof(scale), cudaMemcpyDeviceToHost),
        "copy of a scale");
    const double error = std::abs(scale / expected_scale - 1.0);
    if (!(error <= worst) && !std::isnan(worst)) worst = error;
  }
  record("pack scale", worst, kScaleTolerance);
}

// `produced`: after check_produced(), which left X~ of the producer.
void ShapeChecks::check_linear(const std::string& contender, bool produced) {
  const std::vector<double> y = result_of([&] {
    problem_.pack(0, {.low_rank = true, .produced = produced}, stream_);
    problem_.product(0, contenders_.linear.config, /*low_rank=*/true, stream_);
  });
  record(contender, relative_error(y, sampler_.exact(product(/*low_rank=*/true), stream_)),
         allowed_);
}

// The values that were kept, and whether no others would have kept more, against the specification
// of whole rows. Bits may differ where the order of a sum decides a rounding.
void ShapeChecks::check_produced() {
  problem_.pack(0, {.low_rank = true, .produced = true}, stream_);
  expand_operand();
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  const ConstMatrixView dense =
      contiguous(problem_.set(0).dense.as<const void>(), problem_.dtype(), tokens, channels);
  double difference = 0, norm = 0, dropped = 0, least_dropped = 0;
  for (const std::int64_t row : sampler_.rows()) {
    const SpecifiedRow required = specified_row(problem_.input(0, {.produced = true}), row);
    const std::vector<double> kept = HostRow(dense, row).values();
    for (std::size_t k = 0; k < kept.size(); ++k) {
      const double z = required.z[k];
      if (kept[k] != 0) {
        difference += square(kept[k] - z);
        norm += square(z);
      }
      dropped += square(kept[k] == 0 ? z : 0);
      least_dropped += square(z - required.kept[k]);
    }
  }
  const double rounding = rounding_of(problem_.dtype());
  const std::string name = std::string("fused ") + name_of(problem_.shape().producer);
  record(name, std::sqrt(difference / norm), rounding);
  record(name + " choice", std::sqrt(dropped / least_dropped) - 1, rounding);
}

void ShapeChecks::check_dense_bias() {
  const OperandSet& operands = problem_.set(0);
  const SampledProduct product{.a = operands.x.data(),
                               .weight = operands.weight.data(),
                               .channels = problem_.shape().channels,
                               .bias = problem_.bias()};
  const std::vector<double> exact = sampler_.exact(product, stream_);
  const double plain = relative_error(sampler_.plain(product, stream_), exact);
  const std::vector<double> y = result_of(
      [&] { contenders_.dense_bias->run(product.a, product.weight, operands.y.data(), stream_); });
  record("cublaslt", relative_error(y, exact), 2 * plain);
}

void ShapeChecks::check_sparse() {
  const SparseRival& sparse = *contenders_.sparse;
  const std::vector<double> exact = sampler_.exact({.a = sparse.pruned(0),
                                                    .weight = problem_.set(0).weight.data(),
                                                    .channels = problem_.shape().channels},
                                                   stream_);
  const std::vector<double> y = result_of([&] { sparse.gemm(0, stream_); });
  record("cusparselt", relative_error(y, exact), allowed_);
}

// Y of set 0 as `call` leaves it. What it does not write is NaN.
std::vector<double> ShapeChecks::result_of(const std::function<void()>& call) {
  const DeviceBuffer& y = problem_.set(0).y;
  check_cuda(cudaMemsetAsync(y.data(), kNan, y.bytes(), stream_), "cudaMemsetAsync");
  call();
  return sampler_.gather(y.data(), stream_);
}

Check ShapeChecks::record(const std::string& contender, double error, double allowed) {
  if (!(error <= allowed)) {
    throw WrongResult(fmt::format("{}, {}: required a relative error of at most {:.2e}, got {:.2e}",
                                  problem_.shape().name, contender, allowed, error));
  }
  return checks_.emplace_back(Check{contender, error, allowed});
}

}  // namespace rtlynx::benchmark
