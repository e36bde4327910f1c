// SPDX-License-Identifier: Apache-2.0
#include "gpu/pack_case.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "gpu/parallel.h"
#include "rtlynx/operand24.h"

namespace rtlynx::testing {
namespace {

std::size_t count(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

/// What pack24 gives on the host, by all cores.
struct HostPacked {
  HostPacked(std::int64_t tokens, std::int64_t channels)
      : values(count(tokens, channels) * sizeof(float) / 2),
        metadata(count(tokens, channels) / 16),
        scale(static_cast<std::size_t>(tokens)) {}

  /// Inputs without a producer alone.
  void pack(const Pack24& input) {
    const std::int64_t tokens = input.x.rows, channels = input.x.columns;
    const MatrixView kept =
        contiguous(static_cast<void*>(values.data()), input.x.dtype, tokens, channels / 2);
    in_parallel(tokens, [&](std::int64_t m) {
      Pack24 token = input;
      token.x = slice_rows(input.x, m, 1);
      pack24(token, {.values = slice_rows(kept, m, 1),
                     .metadata = metadata.data() + m * (channels / 16),
                     .scale = scale.data() + m});
    });
  }

  std::vector<std::byte> values;  // of any element type
  std::vector<std::uint16_t> metadata;
  std::vector<float> scale;
};

bool same_or_both_nan(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

std::string describe(const HostInput& input) {
  return std::string(name_of(input.x.dtype)) + " [" + std::to_string(input.tokens()) + ", " +
         std::to_string(input.channels()) + "], " + std::to_string(input.tail.columns) +
         " of them in the tail, producer " + std::to_string(static_cast<int>(input.producer)) +
         ", transform " + std::to_string(input.transform_block) + ", rank " +
         std::to_string(input.down.rows);
}

PackCase::PackCase(HostInput input, std::int64_t gap)
    : input_(std::move(input)),
      x_(input_.x, {.gap = gap}),
      tail_(input_.tail, {.gap = gap}),
      up_(input_.up, {.gap = gap}),
      modulation_scale_(input_.modulation_scale, {.gap = gap}),
      modulation_shift_(input_.modulation_shift, {.gap = gap}),
      down_(input_.down, {.gap = gap}),
      moments_(on_gpu(input_.moments)),
      weight_(on_gpu(input_.weight)),
      transform_(on_gpu(input_.transform)),
      operand_(static_cast<std::size_t>(operand24_bytes(input_.tokens(), input_.channels()))),
      scale_(count(input_.tokens(), sizeof(float))),
      low_(input_.x.dtype, input_.tokens(), input_.down.rows, {.gap = gap}),
      z_(input_.x.dtype, input_.tokens(), input_.channels()),
      workspace_(
          gpu::pack24_workspace_bytes(static_cast<int>(input_.down.rows), gpu::current_device())) {}

Pack24 PackCase::problem() const {
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
  return problem;
}

gpu::PackedInput PackCase::packed() const {
  return {.dtype = input_.x.dtype,
          .tokens = input_.tokens(),
          .channels = input_.channels(),
          .operand = operand_.data(),
          .scale = scale_.floats(),
          .low = low_.view()};
}

template <typename Launch>
void PackCase::launch(Launch launch) {
  operand_.poison();
  scale_.poison();
  low_.poison();
  z_.poison();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  launch(stream);
  stream.wait();
  workspace_.expect_clean();
}

void PackCase::run(pack::Kernel kernel, const Pack24& problem) {
  launch([&](cudaStream_t stream) {
    pack::pack24_by(kernel, problem, packed(), workspace_.view(), stream, z_.view().data);
  });
}

void PackCase::run() {
  launch([&](cudaStream_t stream) { gpu::pack24(problem(), packed(), workspace_.view(), stream); });
}

void PackCase::expect_specified_by_all() {
  SCOPED_TRACE(describe(input_));
  for (const auto& [kernel, name] : kPackKernels) {
    SCOPED_TRACE(name);
    run(kernel);
    expect_specified();
  }
}

void PackCase::expect_specified() {
  const Matrix z = z_.read();
  expect_input(z);
  std::vector<float> scale;
  expect_operand(z, scale);
  expect_scale(z, scale);
  if (input_.down.rows > 0) {
    expect_low(input_.transform.empty() ? z : produced_input(input_), scale);
  }
  expect_guards();
}

void PackCase::expect_input(const Matrix& z) {
  if (!expected_) expected_ = expected_input(input_);
  const auto& [expected, slack] = *expected_;
  if (slack.empty()) {
    EXPECT_TRUE(z.elements == expected.elements) << "z is not the input";
    return;
  }
  for (std::int64_t m = 0; m < z.rows; ++m) {
    for (std::int64_t k = 0; k < z.columns; ++k) {
      const float got = z.value(m, k), wanted = expected.value(m, k);
      if (same_or_both_nan(got, wanted)) continue;
      const double allowed = 2.0 * unit_at(z.dtype, wanted) + double{slack[z.index(m, k)]};
      ASSERT_LE(std::fabs(double{got} - wanted), allowed)
          << "z is " << got << " instead of " << wanted << " at row " << m << ", channel " << k;
    }
  }
}

/// Bit for bit, the padding of the last tiles included.
void PackCase::expect_operand(const Matrix& z, std::vector<float>& scale) const {
  HostPacked packed(z.rows, z.columns);
  packed.pack({.x = z.view(), .restores_norm = input_.restores_norm});
  std::vector<std::byte> expected(operand_.size());
  to_operand24(
      contiguous(static_cast<const void*>(packed.values.data()), z.dtype, z.rows, z.columns / 2),
      packed.metadata.data(), expected.data());
  const std::vector<std::byte> operand = operand_.read();
  const auto [wrong, right] = std::mismatch(operand.begin(), operand.end(), expected.begin());
  EXPECT_TRUE(wrong == operand.end())
      << "operand differs at byte " << wrong - operand.begin() << " of " << operand.size();
  scale = packed.scale;
}

/// Where the definition of s says exactly 1, it has to be exactly 1. Elsewhere: the sums of squares
/// are rounded once for 16 channels, by up to 2^-23 of them, and s takes half of that.
void PackCase::expect_scale(const Matrix& z, const std::vector<float>& expected) const {
  const std::vector<float> scale = scale_.read<float>();
  const float allowed = std::max(1e-5f, 0x1p-24f * static_cast<float>(z.columns) / 16);
  Matrix kept = zeros(z.dtype, z.rows, z.columns);
  sparsify24(z.view(), kept.view(), nullptr);
  for (std::int64_t m = 0; m < z.rows; ++m) {
    const auto row = static_cast<std::size_t>(m);
    ASSERT_NEAR(scale[row], expected[row], allowed * expected[row]) << "s of row " << m;
    bool exact = true, finite = true;
    for (std::int64_t k = 0; k < z.columns; ++k) {
      const float value = z.value(m, k);
      finite = finite && std::isfinite(value);
      exact = exact && (value == 0.0f || kept.elements[z.index(m, k)] == z.elements[z.index(m, k)]);
    }
    if (exact || !finite || !input_.restores_norm) {
      ASSERT_EQ(scale[row], 1.0f) << "s of row " << m;
    }
  }
}

/// (input down^T) / s is what the kernel may round once: its error may be twice that of the
/// rounding.
void PackCase::expect_low(const Matrix& input, const std::vector<float>& scale) const {
  const std::vector<float> expected = low_of(input, input_.down, scale);
  const Matrix low = low_.read();
  double error_squares = 0.0, rounding_squares = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const float got = widen(low.dtype, low.elements[i]);
    const float rounded = widen(low.dtype, narrow(low.dtype, expected[i]));
    if (!std::isfinite(rounded)) {
      ASSERT_TRUE(same_or_both_nan(got, rounded)) << "H / s is " << got << ", not " << rounded;
      continue;
    }
    error_squares += std::pow(double{got} - expected[i], 2);
    rounding_squares += std::pow(double{rounded} - expected[i], 2);
  }
  EXPECT_LE(std::sqrt(error_squares), 2.0 * std::sqrt(rounding_squares)) << "H / s";
}

void PackCase::expect_guards() const {
  EXPECT_TRUE(operand_.guards_intact());
  EXPECT_TRUE(scale_.guards_intact());
  EXPECT_TRUE(low_.guards_intact());
  EXPECT_TRUE(z_.guards_intact());
}

}  // namespace rtlynx::testing
