// SPDX-License-Identifier: Apache-2.0
#include "benchmark/checks.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>

#include "rtlynx/pack24.h"

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

}  // namespace

ShapeChecks::ShapeChecks(const Contenders& contenders, std::uint64_t seed, cudaStream_t stream)
    : contenders_(contenders),
      problem_(contenders.problem),
      stream_(stream),
      seed_(seed),
      sampler_(problem_.shape().tokens, problem_.shape().outputs, problem_.dtype(), seed) {
  problem_.pack(0, {.low_rank = true}, stream_);
  problem_.unpack(0, stream_);
  const OperandSet& operands = problem_.set(0);
  const SampledProduct product{.a = operands.dense.data(),
                               .weight = operands.weight.data(),
                               .channels = problem_.shape().channels};
  exact_ = sampler_.exact(product, stream_);
  const std::vector<double> baseline =
      contenders_.dense == nullptr ? sampler_.plain(product, stream_) : result_of([&] {
        contenders_.dense->run(product.a, product.weight, operands.y.data(), stream_);
      });
  allowed_ = 2 * relative_error(baseline, exact_);
}

std::vector<Check> ShapeChecks::check_all(bool with_fused) {
  check_rows();
  if (contenders_.packs_gemm()) check_gemm(contenders_.gemm.config, "gemm");
  if (contenders_.packs_linear()) check_linear("linear", gpu::Producer::none);
  if (contenders_.dense_bias != nullptr) check_dense_bias();
  if (contenders_.sparse != nullptr) check_sparse();
  if (with_fused) {
    check_producer();
    if (contenders_.packs_linear()) check_linear("fused linear", problem_.producer());
    problem_.pack(0, {.low_rank = true}, stream_);  // as the other checks left it
  }
  return checks_;
}

Check ShapeChecks::check_gemm(const gpu::Gemm24Config& config, const std::string& contender) {
  const std::vector<double> y = result_of([&] {
    problem_.pack(0, {.low_rank = true}, stream_);  // timing left something else
    problem_.gemm(0, config, stream_);
  });
  return record(contender, relative_error(y, exact_), allowed_);
}

// Whole rows against the specification, which the sampled products, made of the kernel's own X~ and
// scale, cannot see.
void ShapeChecks::check_rows() {
  const OperandSet& operands = problem_.set(0);
  const std::int64_t channels = problem_.shape().channels;
  const std::size_t row_bytes =
      static_cast<std::size_t>(channels) * static_cast<std::size_t>(size_of(problem_.dtype()));
  double worst = 0;
  for (const std::int64_t row : sampler_.rows()) {
    const std::size_t offset = static_cast<std::size_t>(row) * row_bytes;
    const std::vector<std::byte> x = fetch(operands.x.as<std::byte>() + offset, row_bytes);
    const std::vector<std::byte> kept = fetch(operands.dense.as<std::byte>() + offset, row_bytes);
    std::vector<std::byte> expected(row_bytes);
    float expected_scale = 0, scale = 0;
    sparsify24(contiguous(x.data(), problem_.dtype(), 1, channels),
               contiguous(expected.data(), problem_.dtype(), 1, channels), &expected_scale);
    if (kept != expected) {
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

void ShapeChecks::check_linear(const std::string& contender, gpu::Producer producer) {
  const std::vector<double> y = result_of([&] {
    problem_.pack(0, {.low_rank = true, .producer = producer}, stream_);
    problem_.full_gemm(0, contenders_.linear.config, /*follows_pack=*/true, stream_);
  });
  problem_.unpack(0, stream_);
  const OperandSet& operands = problem_.set(0);
  const std::vector<double> exact = sampler_.exact({.a = operands.dense.data(),
                                                    .weight = operands.weight.data(),
                                                    .channels = problem_.shape().channels,
                                                    .low = operands.low.data(),
                                                    .up = problem_.up(),
                                                    .rank = kRank,
                                                    .scale = operands.scale.as<float>(),
                                                    .bias = problem_.bias_float()},
                                                   stream_);
  record(contender, relative_error(y, exact), allowed_);
}

void ShapeChecks::check_producer() {
  const OperandSet& operands = problem_.set(0);
  const DeviceBuffer selected_from(operands.x.bytes());
  problem_.pack(
      0, {.low_rank = true, .producer = problem_.producer(), .selected_from = selected_from.data()},
      stream_);
  problem_.produce_dense(0, stream_);
  const Sampler sampler(problem_.shape().tokens, problem_.shape().channels, problem_.dtype(),
                        seed_);
  const std::vector<double> fused = sampler.gather(selected_from.data(), stream_);
  const std::vector<double> dense = sampler.gather(operands.dense.data(), stream_);
  record(std::string("fused ") + name_of(problem_.producer()), relative_error(fused, dense),
         rounding_of(problem_.dtype()));
}

void ShapeChecks::check_dense_bias() {
  const OperandSet& operands = problem_.set(0);
  const SampledProduct product{.a = operands.x.data(),
                               .weight = operands.weight.data(),
                               .channels = problem_.shape().channels,
                               .bias = problem_.bias_float()};
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
