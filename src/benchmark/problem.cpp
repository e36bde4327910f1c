// SPDX-License-Identifier: Apache-2.0
#include "benchmark/problem.h"

#include <algorithm>
#include <cmath>

#include "benchmark/fill.h"
#include "benchmark/producers.h"
#include "rtlynx/gpu/rows.h"
#include "rtlynx/operand24.h"

namespace rtlynx::benchmark {
namespace {

// More than any L2 today, so that a set is gone when its turn comes again; within the memory that
// one shape may take.
constexpr std::int64_t kEnoughBytes = std::int64_t{128} << 20;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

// Seeds of the operands that all sets share; a set's own follow behind them.
enum SharedSeed : std::uint64_t { kDown, kUp, kBias, kScale, kShift, kTransform, kFirstSet };
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
  workspace_ = DeviceBuffer(
      gpu::pack24_workspace_bytes(static_cast<int>(low_columns()), gpu::current_device()));
  const std::int64_t count = sets_needed();
  for (std::int64_t i = 0; i < count; ++i) {
    sets_.push_back(
        draw_set(seed_ + kFirstSet + static_cast<std::uint64_t>(i) * kSeedsPerSet, stream));
  }
  for (int i = 0; i < sets(); ++i) pack(i, {.low_rank = true}, stream);
  check_cuda(cudaStreamSynchronize(stream), "random operands");
}

std::int64_t Problem::padded_tokens() const { return round_up(shape_.tokens, kSparseRowAlignment); }

std::int64_t Problem::low_columns() const {
  return kRank * static_cast<std::int64_t>(shape_.outputs.size());
}

// Counts what cuSPARSELt needs beside it, its pruned and its compressed X, whether it is there or
// not: the sets are the same for everyone.
std::int64_t Problem::sets_needed() const {
  const std::int64_t element = size_of(dtype_);
  const std::int64_t x = shape_.tokens * shape_.channels * element;
  const std::int64_t weight = shape_.all_outputs() * shape_.channels * element;
  const std::int64_t y = shape_.tokens * shape_.all_outputs() * element;
  const std::int64_t operand = operand24_bytes(shape_.tokens, shape_.channels);
  const std::int64_t inputs = shape_.producer == Producer::swiglu ? 4 * x : 3 * x;
  const std::int64_t all = inputs + 2 * operand + weight + y;
  const std::int64_t wanted = kEnoughBytes / (operand + std::min(x, weight)) + 1;
  return std::clamp<std::int64_t>(kMostBytes / all, 1, wanted);
}

void Problem::draw_shared(cudaStream_t stream) {
  const std::int64_t outputs = shape_.all_outputs(), channels = shape_.channels;
  const auto draw = [&](DeviceBuffer& buffer, std::int64_t count, float deviation,
                        SharedSeed seed) {
    buffer = DeviceBuffer(bytes_of(count, dtype_));
    fill_normal(buffer.data(), dtype_, count, {.deviation = deviation, .seed = seed_ + seed},
                stream);
  };
  const float per_channel = 1.0f / std::sqrt(static_cast<float>(channels));
  draw(down_, low_columns() * channels, per_channel, kDown);
  draw(up_, outputs * kRank, 0.1f, kUp);
  draw(bias_, outputs, 1.0f, kBias);
  draw(modulation_scale_, channels, 0.1f, kScale);
  draw(modulation_shift_, channels, 0.1f, kShift);
  if (has_transform()) {
    draw(transform_, channels * kTransformBlock,
         1.0f / std::sqrt(static_cast<float>(kTransformBlock)), kTransform);
  }
}

OperandSet Problem::draw_set(std::uint64_t seed, cudaStream_t stream) const {
  const std::int64_t inputs = shape_.tokens * shape_.channels;
  const std::int64_t weights = shape_.all_outputs() * shape_.channels;
  const bool has_up = shape_.producer == Producer::swiglu;
  const bool has_norm = shape_.producer == Producer::norm;
  OperandSet set{.x = DeviceBuffer(bytes_of(inputs, dtype_)),
                 .up_half = DeviceBuffer(has_up ? bytes_of(inputs, dtype_) : 0),
                 .weight = DeviceBuffer(bytes_of(weights, dtype_)),
                 .dense = DeviceBuffer(bytes_of(inputs, dtype_)),
                 .moments = DeviceBuffer(has_norm ? bytes_of(2 * shape_.tokens, DType::f32) : 0),
                 .operand = DeviceBuffer(
                     static_cast<std::size_t>(operand24_bytes(shape_.tokens, shape_.channels))),
                 .scale = DeviceBuffer(bytes_of(shape_.tokens, DType::f32)),
                 .low = DeviceBuffer(bytes_of(shape_.tokens * low_columns(), dtype_)),
                 .y = DeviceBuffer(bytes_of(padded_tokens() * shape_.all_outputs(), dtype_))};
  const float per_channel = 1.0f / std::sqrt(static_cast<float>(shape_.channels));
  fill_normal(set.x.data(), dtype_, inputs, {.seed = seed}, stream);
  fill_normal(set.weight.data(), dtype_, weights, {.deviation = per_channel, .seed = seed + 1},
              stream);
  if (has_up) fill_normal(set.up_half.data(), dtype_, inputs, {.seed = seed + 2}, stream);
  return set;
}

void Problem::reserve_workspace(const gpu::Gemm24Config& config, const gpu::DeviceTraits& device) {
  const std::size_t bytes = gpu::product24_workspace_bytes(config, device);
  if (bytes > workspace_.bytes()) workspace_ = DeviceBuffer(bytes);
}

ConstMatrixView Problem::view(const DeviceBuffer& buffer, std::int64_t rows,
                              std::int64_t columns) const {
  return contiguous(buffer.as<const void>(), dtype_, rows, columns);
}

gpu::Gemm24Shape Problem::gemm_shape(int rank) const {
  return {.tokens = shape_.tokens,
          .outputs = shape_.all_outputs(),
          .channels = shape_.channels,
          .rank = rank,
          .dtype = dtype_};
}

Pack24 Problem::input(int index, const PackOptions& options) const {
  const OperandSet& operands = set(index);
  Pack24 input{.x = view(operands.x, shape_.tokens, shape_.channels)};
  if (options.produced) {
    input.producer = shape_.producer;
    if (shape_.producer == Producer::swiglu) {
      input.up = view(operands.up_half, shape_.tokens, shape_.channels);
    }
    if (shape_.producer == Producer::norm) {
      input.moments = operands.moments.as<float>();
      input.modulation_scale = view(modulation_scale_, 1, shape_.channels);
      input.modulation_shift = view(modulation_shift_, 1, shape_.channels);
    }
  }
  if (options.transform) {
    input.transform = transform_.data();
    input.transform_block = kTransformBlock;
  }
  if (options.low_rank) input.down = view(down_, low_columns(), shape_.channels);
  return input;
}

gpu::PackedInput Problem::packed(int index, bool low_rank) const {
  const OperandSet& operands = set(index);
  gpu::PackedInput packed{.dtype = dtype_,
                          .tokens = shape_.tokens,
                          .channels = shape_.channels,
                          .operand = operands.operand.data(),
                          .scale = operands.scale.as<float>()};
  if (low_rank) packed.low = contiguous(operands.low.data(), dtype_, shape_.tokens, low_columns());
  return packed;
}

void Problem::pack(int index, const PackOptions& options, cudaStream_t stream) const {
  const Pack24 problem = input(index, options);
  // A model knows the moments from the row kernel before; here they are part of the producer.
  if (problem.producer == Producer::norm) {
    gpu::moments({.x = problem.x, .moments = set(index).moments.as<float>()}, stream);
  }
  gpu::pack24(problem, packed(index, options.low_rank), workspace(), stream);
}

std::vector<Product24> Problem::products(int index, bool low_rank) const {
  const OperandSet& operands = set(index);
  const std::int64_t all_outputs = shape_.all_outputs();
  std::vector<Product24> products;
  std::int64_t first = 0;  // output of this weight
  const auto at = [&](const DeviceBuffer& buffer, std::int64_t element) {
    return buffer.as<std::byte>() + bytes_of(element, dtype_);
  };
  for (const std::int64_t outputs : shape_.outputs) {
    const auto index_of_weight = static_cast<std::int64_t>(products.size());
    Product24& product = products.emplace_back();
    product.weight =
        contiguous(static_cast<const void*>(at(operands.weight, first * shape_.channels)), dtype_,
                   outputs, shape_.channels);
    product.y = {at(operands.y, first), dtype_, shape_.tokens, outputs, all_outputs};
    if (low_rank) {
      product.up =
          contiguous(static_cast<const void*>(at(up_, first * kRank)), dtype_, outputs, kRank);
      product.low_column = kRank * index_of_weight;
      product.bias = at(bias_, first);
      product.bias_dtype = dtype_;
    }
    first += outputs;
  }
  return products;
}

void Problem::product(int index, const gpu::Gemm24Config& config, bool low_rank,
                      cudaStream_t stream) const {
  gpu::product24(packed(index, low_rank), products(index, low_rank), config, workspace(), stream);
}

void Problem::quantize(int index, void* codes, float* units, cudaStream_t stream) const {
  gpu::quantize({.x = view(set(index).x, shape_.tokens, shape_.channels),
                 .codes = contiguous(codes, DType::e4m3, shape_.tokens, shape_.channels),
                 .unit = units},
                stream);
}

void Problem::produce_dense(int index, cudaStream_t stream) const {
  const OperandSet& operands = set(index);
  const Pack24 source = input(index, {.produced = true});
  const MatrixView z = contiguous(operands.dense.data(), dtype_, shape_.tokens, shape_.channels);
  if (source.producer == Producer::norm) {
    gpu::residual_norm({.x = source.x,
                        .scale = source.modulation_scale,
                        .shift = source.modulation_shift,
                        .normed = z},
                       stream);
  } else {
    run_elementwise(source, z, stream);
  }
}

SparseRival::SparseRival(const CusparseLt& library, const Problem& problem, cudaStream_t stream)
    : problem_(problem),
      matmul_(library, problem.padded_tokens(), problem.shape().all_outputs(),
              problem.shape().channels, problem.dtype()) {
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
