// SPDX-License-Identifier: Apache-2.0
#include "benchmark/weight_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "benchmark/checks.h"
#include "benchmark/codes.h"
#include "benchmark/expand.h"
#include "benchmark/sampler.h"
#include "rtlynx/operand24.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kSearchRepeats = 7;
// Roundings of Y and, in one Tensor Core's order or another, of fp32 sums: twice what dense
// products lose (docs/kernels.md).
constexpr double kAllowed = 2 * 0x1p-8;
// The Tensor Cores' accumulators of e4m3 keep some 13 bits of fraction.
constexpr double kAccumulation = 0.005;

std::size_t size_for(std::int64_t bytes) { return static_cast<std::size_t>(bytes); }

/// Rows first .. first + rows - 1 of a contiguous matrix of `columns` elements.
const void* rows_at(const DeviceBuffer& buffer, std::int64_t first, std::int64_t columns,
                    DType dtype) {
  return buffer.as<std::byte>() + first * columns * size_of(dtype);
}

}  // namespace

WeightProblem::WeightProblem(const Problem& problem, DType values, const gpu::DeviceTraits& device,
                             cudaStream_t stream)
    : problem_(problem), values_(values) {
  gpu::Gemm24Shape shape = problem.gemm_shape(kRank);
  if (codes()) shape.width = OperandWidth::k8;
  config_ = gpu::fastest_weight24(shape, device);
  workspace_ = DeviceBuffer(std::max(gpu::pack24_workspace_bytes(/*low_columns=*/0, device),
                                     gpu::product24_workspace_bytes(config_, device)));
  for (int i = 0; i < problem.sets(); ++i) draw(sets_.emplace_back(), i, stream);
  check_cuda(cudaStreamSynchronize(stream), "sparse weights");
}

void WeightProblem::draw(Set& set, int index, cudaStream_t stream) const {
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  pack_weights(set, index, stream);
  set.low = DeviceBuffer(size_for(tokens * problem_.low_columns() * 2));
  if (!codes()) return;
  set.x = DeviceBuffer(size_for(tokens * channels));
  set.x_scale = DeviceBuffer(size_for(tokens * 4));
  problem_.quantize(index, set.x.data(), set.x_scale.as<float>(), stream);
}

/// Online packing of W keeps the two largest of four as pruning by magnitude does.
void WeightProblem::pack_weights(Set& set, int index, cudaStream_t stream) const {
  const std::int64_t channels = problem_.shape().channels;
  const OperandWidth width = codes() ? OperandWidth::k8 : OperandWidth::k16;
  // The weights' deviation is 1 / sqrt(K): that of the codes is 64.
  const std::vector<float> factor(size_for(problem_.shape().all_outputs()),
                                  64 * std::sqrt(static_cast<float>(channels)));
  DeviceBuffer factors(factor.size() * sizeof(float)), scale(factors.bytes());
  check_cuda(cudaMemcpy(factors.data(), factor.data(), factors.bytes(), cudaMemcpyHostToDevice),
             "factors");
  std::int64_t first = 0;
  for (const std::int64_t outputs : problem_.shape().outputs) {
    DeviceBuffer& operand =
        set.operands.emplace_back(size_for(operand24_bytes(outputs, channels, width)));
    const void* const rows = rows_at(problem_.set(index).weight, first, channels, problem_.dtype());
    Pack24 weight{.x = contiguous(rows, problem_.dtype(), outputs, channels),
                  .restores_norm = false};
    if (codes()) weight.code_factor = factors.as<float>();
    gpu::pack24(weight,
                {.dtype = problem_.dtype(),
                 .width = width,
                 .tokens = outputs,
                 .channels = channels,
                 .operand = operand.data(),
                 .scale = scale.as<float>()},
                workspace(), stream);
    first += outputs;
  }
  check_cuda(cudaStreamSynchronize(stream), "pack24 of weights");
}

void WeightProblem::search_down(const CublasLt& library, Timer& timer) {
  const DenseProblem problem{.tokens = problem_.shape().tokens,
                             .outputs = problem_.low_columns(),
                             .channels = problem_.shape().channels,
                             .dtype = values_};
  if (codes()) {
    DeviceBuffer narrow(size_for(problem.outputs * problem.channels));
    to_codes({down(), problem_.dtype(), problem.outputs, problem.channels},
             std::sqrt(static_cast<float>(problem.channels)), narrow.as<std::uint8_t>(),
             timer.stream());
    down_codes_ = std::move(narrow);
  }
  auto matmul = std::make_unique<DenseMatmul>(library, problem);
  matmul->search([&](const auto& call) { return timer.cold_median(call, kSearchRepeats); }, x(0),
                 down(), sets_.front().low.data(), timer.stream());
  down_ = std::move(matmul);
}

const void* WeightProblem::down() const {
  return down_codes_.bytes() > 0 ? down_codes_.data()
                                 : problem_.input(0, {.low_rank = true}).down.data;
}

const void* WeightProblem::x(int index) const {
  return codes() ? sets_[static_cast<std::size_t>(index)].x.data() : problem_.set(index).x.data();
}

DenseInput24 WeightProblem::input(int index, bool low_rank) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  DenseInput24 input{.x = contiguous(x(index), values_, tokens, channels)};
  if (codes()) input.scale = set.x_scale.as<float>();
  if (low_rank) {
    const void* const low = set.low.data();
    input.low = contiguous(low, problem_.dtype(), tokens, problem_.low_columns());
  }
  return input;
}

std::vector<WeightProduct24> WeightProblem::products(int index, bool low_rank) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  std::vector<WeightProduct24> products;
  for (const Product24& dense : problem_.products(index, low_rank)) {
    const ConstMatrixView values = contiguous(static_cast<const void*>(nullptr), values_,
                                              dense.weight.rows, dense.weight.columns / 2);
    products.push_back({.values = values,
                        .operand = set.operands[products.size()].data(),
                        .up = dense.up,
                        .low_column = dense.low_column,
                        .bias = dense.bias,
                        .bias_dtype = dense.bias_dtype,
                        .y = dense.y});
  }
  return products;
}

void WeightProblem::product(int index, bool low_rank, cudaStream_t stream) const {
  gpu::weight_product24(input(index, low_rank), products(index, low_rank), config_, workspace(),
                        stream);
}

void WeightProblem::linear(int index, cudaStream_t stream) const {
  const Set& set = sets_[static_cast<std::size_t>(index)];
  if (codes()) {
    problem_.quantize(index, set.x.data(), set.x_scale.as<float>(), stream);
  }
  down_->run(x(index), down(), set.low.data(), stream);
  product(index, /*low_rank=*/true, stream);
}

std::vector<Check> WeightProblem::check(std::uint64_t seed, cudaStream_t stream) const {
  const Set& set = sets_.front();
  const std::int64_t tokens = problem_.shape().tokens, channels = problem_.shape().channels;
  const std::int64_t outputs = problem_.shape().all_outputs();
  const Sampler sampler(tokens, outputs, problem_.dtype(), seed);
  DeviceBuffer weight(size_for(outputs * channels * 2)), codes_of_x;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < set.operands.size(); ++i) {
    const std::int64_t own = problem_.shape().outputs[i];
    const DeviceBuffer part = expand_operand(set.operands[i].data(), values_, own, channels);
    check_cuda(cudaMemcpy(weight.as<std::byte>() + first * channels * 2, part.data(), part.bytes(),
                          cudaMemcpyDeviceToDevice),
               "sparse weight");
    first += own;
  }
  SampledProduct exact{
      .a = problem_.set(0).x.data(), .weight = weight.data(), .channels = channels};
  if (codes()) {
    codes_of_x = DeviceBuffer(size_for(tokens * channels * 2));
    from_codes(set.x.as<std::uint8_t>(), tokens * channels, problem_.dtype(), codes_of_x.data(),
               stream);
    exact.a = codes_of_x.data();
    exact.scale = set.x_scale.as<float>();
  }
  const std::string name = codes() ? "e4m3 sparse weight" : "sparse weight";
  std::vector<Check> checks;
  const auto compare = [&](const std::string& contender) {
    const double allowed = kAllowed + (codes() ? kAccumulation : 0.0);
    const double error = relative_error(sampler.gather(problem_.set(0).y.data(), stream),
                                        sampler.exact(exact, stream));
    if (!(error <= allowed)) {
      throw WrongResult(
          fmt::format("{}, {}: required a relative error of at most {:.2e}, got {:.2e}",
                      problem_.shape().name, contender, allowed, error));
    }
    checks.push_back({contender, error, allowed});
  };
  product(0, /*low_rank=*/false, stream);
  compare(name);
  if (!has_down()) return checks;
  linear(0, stream);
  exact.low = set.low.data();
  exact.low_columns = problem_.low_columns();
  exact.up = problem_.up();
  exact.rank = kRank;
  exact.bias = problem_.bias();
  std::int64_t end = 0;
  for (std::size_t i = 0; i < set.operands.size(); ++i) {
    exact.ends[i] = end += problem_.shape().outputs[i];
  }
  compare(name + " linear");
  return checks;
}

}  // namespace rtlynx::benchmark
