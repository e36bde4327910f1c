// SPDX-License-Identifier: Apache-2.0
#include "benchmark/e4m3_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "benchmark/checks.h"
#include "benchmark/expand.h"
#include "benchmark/sampler.h"
#include "kernels/gemm/select.h"
#include "rtlynx/operand24.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kSearchRepeats = 7;
constexpr float kXFactor = 64;  // normal elements times this lie well within e4m3
// The Tensor Cores' accumulators of e4m3 keep some 13 bits of fraction: below half a percent of the
// outputs for every K here.
constexpr double kAllowed = 0.005 + 2 * 0x1p-8;

std::size_t size_for(std::int64_t bytes) { return static_cast<std::size_t>(bytes); }

gpu::Gemm24Shape shape_of(const Problem& problem, int rank) {
  gpu::Gemm24Shape shape = problem.gemm_shape(rank);
  shape.width = OperandWidth::k8;
  return shape;
}

}  // namespace

E4m3Problem::E4m3Problem(const Problem& problem, const gpu::DeviceTraits& device,
                         cudaStream_t stream)
    : problem_(problem), config_(gpu::fastest_sparse(shape_of(problem, kRank), device)) {
  workspace_ = DeviceBuffer(
      std::max(gpu::pack24_workspace_bytes(static_cast<int>(problem.low_columns()), device),
               gpu::product24_workspace_bytes(config_, device)));
  check_cuda(cudaMemsetAsync(workspace_.data(), 0, workspace_.bytes(), stream), "workspace");
  for (int i = 0; i < problem.sets(); ++i) draw(sets_.emplace_back(), i, stream);
}

Rows E4m3Problem::x_of(int set) const {
  return {problem_.set(set).x.data(), problem_.dtype(), problem_.shape().tokens,
          problem_.shape().channels};
}

void E4m3Problem::draw(Set& set, int index, cudaStream_t stream) const {
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  const std::int64_t outputs = problem_.shape().all_outputs();
  set = {.weight = DeviceBuffer(size_for(outputs * channels)),
         .x = DeviceBuffer(size_for(tokens * channels)),
         .x_scale = DeviceBuffer(size_for(tokens * 4)),
         .factors = DeviceBuffer(size_for(tokens * 4)),
         .operand = DeviceBuffer(size_for(operand24_bytes(tokens, channels, OperandWidth::k8))),
         .scale = DeviceBuffer(size_for(tokens * 4)),
         .low = DeviceBuffer(size_for(tokens * problem_.low_columns() * 2))};
  // The weights' deviation is 1 / sqrt(K): theirs of the codes is that of X's.
  const float factor = kXFactor * std::sqrt(static_cast<float>(channels));
  to_codes({problem_.set(index).weight.data(), problem_.dtype(), outputs, channels}, factor,
           set.weight.as<std::uint8_t>(), stream);
  to_codes(x_of(index), kXFactor, set.x.as<std::uint8_t>(), stream);
  pack(index, /*low_rank=*/true, stream);
}

void E4m3Problem::search_dense(const CublasLt& library, Timer& timer) {
  const std::int64_t outputs = problem_.shape().all_outputs();
  const std::vector<float> ones(size_for(outputs), 1.0f);
  weight_scale_ = DeviceBuffer(ones.size() * sizeof(float));
  check_cuda(
      cudaMemcpy(weight_scale_.data(), ones.data(), weight_scale_.bytes(), cudaMemcpyHostToDevice),
      "scales");
  bias_ = DeviceBuffer(ones.size() * sizeof(BFloat16));
  check_cuda(cudaMemset(bias_.data(), 0, bias_.bytes()), "bias");
  const Set& set = sets_.front();
  problem_.quantize(0, set.x.data(), set.x_scale.as<float>(), timer.stream());
  const auto searched = [&](bool with_scales, const void* bias, double& time) {
    DenseProblem dense{.tokens = problem_.shape().tokens,
                       .outputs = outputs,
                       .channels = problem_.shape().channels,
                       .dtype = DType::e4m3,
                       .bias = bias};
    if (with_scales) {
      dense.token_scale = set.x_scale.as<float>();
      dense.weight_scale = weight_scale_.as<float>();
    }
    auto matmul = std::make_unique<DenseMatmul>(library, dense);
    time =
        matmul->search([&](const auto& call) { return timer.cold_median(call, kSearchRepeats); },
                       set.x.data(), set.weight.data(), problem_.set(0).y.data(), timer.stream());
    return matmul;
  };
  double plain = 0, with_scales = 0, with_bias = 0;
  auto by_tensor = searched(false, nullptr, plain), by_rows = searched(true, nullptr, with_scales);
  dense_bias_ = searched(true, bias_.data(), with_bias);
  dense_has_scales_ = with_scales < plain;
  dense_ = std::move(dense_has_scales_ ? by_rows : by_tensor);
}

gpu::PackedInput E4m3Problem::packed(int index, bool low_rank) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  gpu::PackedInput packed{.dtype = problem_.dtype(),
                          .width = OperandWidth::k8,
                          .tokens = problem_.shape().tokens,
                          .channels = problem_.shape().channels,
                          .operand = set.operand.data(),
                          .scale = set.scale.as<float>()};
  if (low_rank) {
    packed.low =
        contiguous(set.low.data(), problem_.dtype(), packed.tokens, problem_.low_columns());
  }
  return packed;
}

void E4m3Problem::pack(int index, bool low_rank, cudaStream_t stream) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  Pack24 input = problem_.input(index, {.low_rank = low_rank});
  gpu::code_factors(input, /*transform_gain=*/1.0f, set.factors.as<float>(), stream);
  input.code_factor = set.factors.as<float>();
  gpu::pack24(input, packed(index, low_rank), workspace(), stream);
}

void E4m3Problem::product(int index, bool low_rank, cudaStream_t stream) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  std::vector<Product24> products = problem_.products(index, low_rank);
  std::int64_t first = 0;
  for (Product24& product : products) {
    const std::int64_t channels = product.weight.columns;
    product.weight =
        contiguous(static_cast<const void*>(set.weight.as<std::uint8_t>() + first * channels),
                   DType::e4m3, product.weight.rows, channels);
    first += product.weight.rows;
  }
  gpu::product24(packed(index, low_rank), products, config_, workspace(), stream);
}

void E4m3Problem::dense(int index, cudaStream_t stream) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  dense_->run(set.x.data(), set.weight.data(), problem_.set(index).y.data(), stream);
}

void E4m3Problem::dense_linear(int index, cudaStream_t stream) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  // The product was made with the scales of the first set, which all calls write.
  problem_.quantize(index, set.x.data(), sets_.front().x_scale.as<float>(), stream);
  dense_bias_->run(set.x.data(), set.weight.data(), problem_.set(index).y.data(), stream);
}

std::vector<Check> E4m3Problem::check(std::uint64_t seed, cudaStream_t stream) const {
  const Set& set = sets_.front();
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  const std::int64_t outputs = problem_.shape().all_outputs();
  const Sampler sampler(tokens, outputs, DType::bf16, seed);
  DeviceBuffer weight(size_for(outputs * channels * 2)), x(size_for(tokens * channels * 2));
  from_codes(set.weight.as<std::uint8_t>(), outputs * channels, DType::bf16, weight.data(), stream);
  const auto compare = [&](const std::string& contender, const SampledProduct& exact) {
    const double error = relative_error(sampler.gather(problem_.set(0).y.data(), stream),
                                        sampler.exact(exact, stream));
    if (!(error <= kAllowed)) {
      throw WrongResult(
          fmt::format("{}, {}: required a relative error of at most {:.2e}, got {:.2e}",
                      problem_.shape().name, contender, kAllowed, error));
    }
    return Check{contender, error, kAllowed};
  };
  std::vector<Check> checks;
  pack(0, /*low_rank=*/true, stream);
  product(0, /*low_rank=*/false, stream);
  check_cuda(cudaStreamSynchronize(stream), "product24 of e4m3");
  const DeviceBuffer kept = expand_operand(set.operand.data(), DType::e4m3, tokens, channels);
  checks.push_back(compare("e4m3", {.a = kept.data(),
                                    .weight = weight.data(),
                                    .channels = channels,
                                    .scale = set.scale.as<float>()}));
  if (!has_dense()) return checks;
  from_codes(set.x.as<std::uint8_t>(), tokens * channels, DType::bf16, x.data(), stream);
  dense(0, stream);
  SampledProduct exact{.a = x.data(), .weight = weight.data(), .channels = channels};
  if (dense_has_scales_) exact.scale = set.x_scale.as<float>();
  checks.push_back(compare("cublaslt e4m3", exact));
  return checks;
}

}  // namespace rtlynx::benchmark
