// SPDX-License-Identifier: Apache-2.0
#include "benchmark/problem.h"

#include <algorithm>
#include <cmath>

#include "benchmark/fill.h"
#include "rtlynx/operand24.h"

namespace rtlynx::benchmark {
namespace {

// More than any L2 today, so that a set is gone when its turn comes again; within the memory that
// one shape may take.
constexpr std::int64_t kEnoughBytes = std::int64_t{128} << 20;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

// Seeds of the operands that all sets share; a set's own follow behind them.
enum SharedSeed : std::uint64_t { kDown, kUp, kBias, kMultiplier, kShift, kTransform, kFirstSet };
constexpr std::uint64_t kSeedsPerSet = 3;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::size_t bytes_of(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * static_cast<std::size_t>(size_of(dtype));
}

}  // namespace

Problem::Problem(const Shape& shape, DType dtype, std::uint64_t seed, cudaStream_t stream)
    : shape_(shape), dtype_(dtype), seed_(seed * 0x10000) {
  draw_shared(stream);
  pack_workspace_ = DeviceBuffer(gpu::pack24_workspace_bytes(kRank, gpu::current_device()));
  const std::int64_t count = sets_needed();
  for (std::int64_t i = 0; i < count; ++i) {
    sets_.push_back(
        draw_set(seed_ + kFirstSet + static_cast<std::uint64_t>(i) * kSeedsPerSet, stream));
  }
  for (int i = 0; i < sets(); ++i) pack(i, {.low_rank = true}, stream);
  check_cuda(cudaStreamSynchronize(stream), "random operands");
}

std::int64_t Problem::padded_tokens() const { return round_up(shape_.tokens, kSparseRowAlignment); }

// Counts what cuSPARSELt needs beside it, its pruned and its compressed X, whether it is there or
// not: the sets are the same for everyone.
std::int64_t Problem::sets_needed() const {
  const std::int64_t element = size_of(dtype_);
  const std::int64_t x = shape_.tokens * shape_.channels * element;
  const std::int64_t weight = shape_.outputs * shape_.channels * element;
  const std::int64_t y = shape_.tokens * shape_.outputs * element;
  const std::int64_t operand = operand24_bytes(shape_.tokens, shape_.channels);
  const std::int64_t inputs = producer() == gpu::Producer::swiglu ? 4 * x : 3 * x;
  const std::int64_t all = inputs + 2 * operand + weight + y;
  const std::int64_t wanted = kEnoughBytes / (operand + std::min(x, weight)) + 1;
  return std::clamp<std::int64_t>(kMostBytes / all, 1, wanted);
}

void Problem::draw_shared(cudaStream_t stream) {
  const std::int64_t outputs = shape_.outputs, channels = shape_.channels;
  const auto draw = [&](DeviceBuffer& buffer, DType dtype, std::int64_t count, float mean,
                        float deviation, SharedSeed seed) {
    buffer = DeviceBuffer(bytes_of(count, dtype));
    fill_normal(buffer.data(), dtype, count,
                {.mean = mean, .deviation = deviation, .seed = seed_ + seed}, stream);
  };
  const float per_channel = 1.0f / std::sqrt(static_cast<float>(channels));
  draw(down_, dtype_, kRank * channels, 0, per_channel, kDown);
  draw(up_, dtype_, outputs * kRank, 0, 0.1f, kUp);
  draw(bias_, dtype_, outputs, 0, 1, kBias);
  draw(multiplier_, DType::f32, channels, 1, 0.1f, kMultiplier);
  draw(shift_, DType::f32, channels, 0, 0.1f, kShift);
  if (has_transform()) {
    draw(transform_, dtype_, channels * kTransformBlock, 0,
         1.0f / std::sqrt(static_cast<float>(kTransformBlock)), kTransform);
  }
  bias_float_ = DeviceBuffer(bytes_of(outputs, DType::f32));
  widen_to_float(bias_.data(), dtype_, outputs, bias_float_.as<float>(), stream);
}

OperandSet Problem::draw_set(std::uint64_t seed, cudaStream_t stream) const {
  const std::int64_t inputs = shape_.tokens * shape_.channels;
  const std::int64_t weights = shape_.outputs * shape_.channels;
  OperandSet set{
      .x = DeviceBuffer(bytes_of(inputs, dtype_)),
      .up_half = DeviceBuffer(producer() == gpu::Producer::swiglu ? bytes_of(inputs, dtype_) : 0),
      .weight = DeviceBuffer(bytes_of(weights, dtype_)),
      .dense = DeviceBuffer(bytes_of(inputs, dtype_)),
      .operand =
          DeviceBuffer(static_cast<std::size_t>(operand24_bytes(shape_.tokens, shape_.channels))),
      .scale = DeviceBuffer(bytes_of(shape_.tokens, DType::f32)),
      .low = DeviceBuffer(bytes_of(shape_.tokens * kRank, dtype_)),
      .y = DeviceBuffer(bytes_of(padded_tokens() * shape_.outputs, dtype_))};
  const float per_channel = 1.0f / std::sqrt(static_cast<float>(shape_.channels));
  fill_normal(set.x.data(), dtype_, inputs, {.seed = seed}, stream);
  fill_normal(set.weight.data(), dtype_, weights, {.deviation = per_channel, .seed = seed + 1},
              stream);
  if (set.up_half.bytes() > 0) {
    fill_normal(set.up_half.data(), dtype_, inputs, {.seed = seed + 2}, stream);
  }
  return set;
}

void Problem::reserve_workspace(const gpu::Gemm24Config& config, const gpu::DeviceTraits& device) {
  const std::size_t bytes = gpu::gemm24_workspace_bytes(config, device);
  if (bytes > workspace_.bytes()) workspace_ = DeviceBuffer(bytes);
}

void Problem::pack(int index, const PackOptions& options, cudaStream_t stream) const {
  const OperandSet& operands = set(index);
  gpu::Pack24 problem{
      .x = contiguous(operands.x.as<const void>(), dtype_, shape_.tokens, shape_.channels),
      .operand = operands.operand.data(),
      .scale = operands.scale.as<float>(),
      .down = {},
      .low = nullptr};
  if (options.low_rank) {
    problem.down = contiguous(down_.as<const void>(), dtype_, kRank, shape_.channels);
    problem.low = operands.low.data();
  }
  if (options.transform) {
    problem.transform = transform_.data();
    problem.transform_block = kTransformBlock;
  }
  problem.producer = options.producer;
  if (options.producer == gpu::Producer::swiglu) problem.up = operands.up_half.data();
  if (options.producer == gpu::Producer::layer_norm) {
    problem.multiplier = multiplier_.data();
    problem.shift = shift_.data();
  }
  problem.workspace = pack_workspace_.data();
  problem.workspace_bytes = pack_workspace_.bytes();
  problem.selected_from = options.selected_from;
  gpu::pack24(problem, stream);
}

void Problem::unpack(int index, cudaStream_t stream) const {
  const OperandSet& operands = set(index);
  gpu::unpack24(operands.operand.data(),
                contiguous(operands.dense.data(), dtype_, shape_.tokens, shape_.channels), stream);
}

gpu::Gemm24Shape Problem::gemm_shape(int rank) const {
  return {.tokens = shape_.tokens,
          .outputs = shape_.outputs,
          .channels = shape_.channels,
          .rank = rank,
          .dtype = dtype_};
}

gpu::Gemm24 Problem::plain_problem(int index) const {
  const OperandSet& operands = set(index);
  gpu::Gemm24 problem;
  problem.shape = gemm_shape(/*rank=*/0);
  problem.operand = operands.operand.data();
  problem.weight = operands.weight.data();
  problem.y = operands.y.data();
  problem.workspace = workspace_.data();
  problem.workspace_bytes = workspace_.bytes();
  return problem;
}

void Problem::gemm(int index, const gpu::Gemm24Config& config, cudaStream_t stream) const {
  gpu::gemm24(plain_problem(index), config, stream);
}

void Problem::full_gemm(int index, const gpu::Gemm24Config& config, bool follows_pack,
                        cudaStream_t stream) const {
  gpu::Gemm24 problem = plain_problem(index);
  problem.shape.rank = kRank;
  problem.low = set(index).low.data();
  problem.up = up_.data();
  problem.scale = set(index).scale.as<float>();
  problem.bias = bias_float();
  problem.follows_pack = follows_pack;
  gpu::gemm24(problem, config, stream);
}

void Problem::produce_dense(int index, cudaStream_t stream) const {
  const OperandSet& operands = set(index);
  run_dense_producer({.kind = producer(),
                      .dtype = dtype_,
                      .tokens = shape_.tokens,
                      .channels = shape_.channels,
                      .x = operands.x.data(),
                      .up = operands.up_half.data(),
                      .multiplier = multiplier_.as<float>(),
                      .shift = shift_.as<float>(),
                      .z = operands.dense.data()},
                     stream);
}

SparseRival::SparseRival(const CusparseLt& library, const Problem& problem, cudaStream_t stream)
    : problem_(problem),
      matmul_(library, problem.padded_tokens(), problem.shape().outputs, problem.shape().channels,
              problem.dtype()) {
  const std::int64_t channels = problem.shape().channels;
  // The rows that round M up stay zero; X is copied because it ends before them.
  for (int i = 0; i < problem.sets(); ++i) {
    const DeviceBuffer& x = problem.set(i).x;
    DeviceBuffer& pruned =
        pruned_.emplace_back(bytes_of(problem.padded_tokens() * channels, problem.dtype()));
    check_cuda(
        cudaMemcpyAsync(pruned.data(), x.data(), x.bytes(), cudaMemcpyDeviceToDevice, stream),
        "copy of X");
    matmul_.prune(pruned.data(), pruned.data(), stream);
  }
  matmul_.search(pruned_[0].data(), problem.set(0).weight.data(), problem.set(0).y.data(), stream);
  for (int i = 0; i < problem.sets(); ++i) {
    compressed_.emplace_back(matmul_.compressed_bytes());
    compress(i, stream);
  }
  check_cuda(cudaStreamSynchronize(stream), "cuSPARSELt");
}

void SparseRival::compress(int index, cudaStream_t stream) const {
  matmul_.compress(pruned(index), compressed_[static_cast<std::size_t>(index)].data(), stream);
}

void SparseRival::gemm(int index, cudaStream_t stream) const {
  const OperandSet& operands = problem_.set(index);
  matmul_.run(compressed_[static_cast<std::size_t>(index)].data(), operands.weight.data(),
              operands.y.data(), stream);
}

}  // namespace rtlynx::benchmark
