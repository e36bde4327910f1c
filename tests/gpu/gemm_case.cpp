// SPDX-License-Identifier: Apache-2.0
#include "gpu/gemm_case.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/gemm/select.h"
#include "kernels/gemm/workspace.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/operand24.h"

namespace rtlynx::testing {
namespace {

constexpr int kLargestInteger = 4;
constexpr std::size_t kWeightGuard = std::size_t{1} << 20;  // a tile of rows beyond the last

gpu::Gemm24 problem_of(const GemmShape& shape, DType dtype) {
  gpu::Gemm24 problem{.shape = {.tokens = shape.tokens,
                                .outputs = shape.outputs,
                                .channels = shape.channels,
                                .rank = shape.rank,
                                .dtype = dtype}};
  if (!shape.segment_ends.empty()) {
    problem.segments = static_cast<int>(shape.segment_ends.size());
    std::copy(shape.segment_ends.begin(), shape.segment_ends.end(), problem.segment_ends.begin());
  }
  return problem;
}

std::size_t bytes(std::int64_t rows, std::int64_t columns, std::size_t element = 2) {
  return static_cast<std::size_t>(rows * columns) * element;
}

void fill(const DeviceBuffer& buffer, DType dtype, std::uint32_t seed, Values values,
          float deviation) {
  const auto count = static_cast<std::int64_t>(buffer.size() / 2);
  if (count == 0) return;
  if (values == Values::integers) {
    fill_integers(buffer.data(), dtype, count, seed, kLargestInteger);
  } else {
    fill_normal(buffer.data(), dtype, count, seed, deviation);
  }
}

}  // namespace

std::vector<gpu::Gemm24Config> stream_k_configs() {
  std::vector<gpu::Gemm24Config> configs = all_configs();
  std::erase_if(configs, [](const gpu::Gemm24Config& config) { return !config.stream_k; });
  return configs;
}

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

std::string describe(const gpu::Gemm24Shape& shape) {
  return std::string(name_of(shape.dtype)) + " M " + std::to_string(shape.tokens) + ", N " +
         std::to_string(shape.outputs) + ", K " + std::to_string(shape.channels) + ", rank " +
         std::to_string(shape.rank);
}

Workspace::Workspace(const gpu::Gemm24Config& config)
    : buffer_(gpu::gemm24_workspace_bytes(config, gpu::current_device())) {
  buffer_.fill(0);
}

void Workspace::attach(gpu::Gemm24& problem) const {
  problem.workspace = buffer_.data();
  problem.workspace_bytes = buffer_.size();
}

void Workspace::expect_clean() const {
  EXPECT_TRUE(buffer_.guards_intact());
  if (buffer_.size() == 0) return;
  const int flags = gpu::current_device().multiprocessors * gpu::Gemm24Workspace::kFlagsPerCta;
  std::vector<std::uint32_t> values(static_cast<std::size_t>(flags));
  ASSERT_EQ(cudaMemcpy(values.data(), buffer_.data(), values.size() * sizeof(std::uint32_t),
                       cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(std::count(values.begin(), values.end(), 0u), flags) << "flags of the workspace";
}

GemmCase::GemmCase(const GemmShape& shape, DType dtype, Values values)
    : problem_(problem_of(shape, dtype)),
      image_tokens_((shape.tokens + 2) / 3 + 1),
      operand_(static_cast<std::size_t>(operand24_bytes(shape.tokens, shape.channels))),
      kept_(bytes(shape.tokens, shape.channels)),
      weight_(bytes(shape.outputs, shape.channels), nullptr, {.guard_after = kWeightGuard}),
      low_(bytes(shape.tokens, std::int64_t{problem_.segments} * shape.rank)),
      up_(bytes(shape.outputs, shape.rank), nullptr, {.guard_after = kWeightGuard}),
      scale_(bytes(shape.tokens, 1, sizeof(float))),
      bias_(bytes(1, shape.outputs, sizeof(float))),
      gate_(bytes(3, shape.outputs)),
      residual_(bytes(shape.tokens, shape.outputs)),
      y_(bytes(shape.tokens, shape.outputs)),
      exact_sums_(bytes(shape.tokens, shape.outputs, sizeof(double))),
      baseline_sums_(bytes(shape.tokens, shape.outputs, sizeof(float))) {
  pack(values);
  const auto depth = static_cast<float>(shape.channels + shape.rank);
  fill(weight_, dtype, 2, values, 1.0f / std::sqrt(depth));
  fill(low_, dtype, 3, values, 1.0f);
  fill(up_, dtype, 4, values, 1.0f / std::sqrt(depth));
  fill(gate_, dtype, 5, Values::normal, 1.0f);
  fill(residual_, dtype, 6, Values::normal, 1.0f);
  fill_uniform(scale_.floats(), shape.tokens, 7, 1.0f, 1.4f);
  fill_uniform(bias_.floats(), shape.outputs, 8, -1.0f, 1.0f);
  problem_.operand = operand_.data();
  problem_.weight = weight_.data();
  if (shape.rank > 0) {
    problem_.low = low_.data();
    problem_.up = up_.data();
  }
  problem_.y = y_.data();
  multiply(problem_, kept_.data(), static_cast<double*>(exact_sums_.data()));
  multiply(problem_, kept_.data(), baseline_sums_.floats());
}

void GemmCase::pack(Values values) {
  const gpu::Gemm24Shape& shape = problem_.shape;
  const DeviceBuffer x(kept_.size());
  fill(x, shape.dtype, 1, values, 1.0f);
  gpu::pack24({.x = contiguous(x.data(), shape.dtype, shape.tokens, shape.channels),
               .operand = operand_.data(),
               .scale = nullptr,
               .down = {},
               .low = nullptr},
              nullptr);
  gpu::unpack24(operand_.data(),
                contiguous(kept_.data(), shape.dtype, shape.tokens, shape.channels), nullptr);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

void GemmCase::run(const gpu::Gemm24& problem, const gpu::Gemm24Config& config) {
  gpu::Gemm24 call = problem;
  const Workspace workspace(config);
  workspace.attach(call);
  if (problem.residual == y_.data()) {
    ASSERT_EQ(cudaMemcpy(y_.data(), residual_.data(), y_.size(), cudaMemcpyDeviceToDevice),
              cudaSuccess);
  } else {
    y_.poison();
  }
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  gpu::gemm24(call, config, stream);
  stream.wait();
  workspace.expect_clean();
}

Errors GemmCase::errors(const gpu::Gemm24& problem) const {
  gpu::Gemm24 finished = problem;
  if (finished.residual == y_.data()) finished.residual = residual_.data();
  return compare(finished, static_cast<const double*>(exact_sums_.data()), baseline_sums_.floats());
}

void GemmCase::expect_close(const gpu::Gemm24& problem) const {
  const Errors found = errors(problem);
  const double norm = std::sqrt(found.exact_squares);
  EXPECT_GT(norm, 0.0);
  EXPECT_LE(std::sqrt(found.error_squares) / norm, 2.0 * std::sqrt(found.baseline_squares) / norm);
  EXPECT_LE(found.largest_error, 2.0 * found.largest_baseline);
  EXPECT_TRUE(y_.guards_intact());
}

void GemmCase::expect_exact(const gpu::Gemm24& problem) const {
  EXPECT_EQ(errors(problem).differing, 0u) << "elements differ";
  EXPECT_TRUE(y_.guards_intact());
}

}  // namespace rtlynx::testing
