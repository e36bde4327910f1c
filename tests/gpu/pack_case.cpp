// SPDX-License-Identifier: Apache-2.0
#include "gpu/pack_case.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <random>

#include "base/half.h"
#include "gpu/reference.h"
#include "kernels/pack/workspace.h"
#include "ops/samples.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"

namespace rtlynx::testing {
namespace {

constexpr std::uint16_t kSign = 0x8000u;

std::uint16_t narrow(DType dtype, float value) {
  return dtype == DType::bf16 ? from_float<BFloat16>(value).bits : from_float<Half>(value).bits;
}

float widen(DType dtype, std::uint16_t bits) {
  return dtype == DType::bf16 ? to_float(BFloat16{bits}) : to_float(Half{bits});
}

/// A draw of one element of a row.
class HardRow {
 public:
  HardRow(DType dtype, int kind, std::mt19937& random)
      : dtype_(dtype), kind_(kind), random_(random) {}

  static constexpr int kKinds = 12;

  std::uint16_t draw() {
    const std::uint16_t sign = random_() % 2 ? kSign : 0;
    const bool seldom = random_() % 16 == 0;
    switch (kind_) {
      case 0:  // any bits at all
        return static_cast<std::uint16_t>(random_());
      case 1:  // ties
        return narrow(dtype_, static_cast<float>(static_cast<int>(random_() % 5) - 2));
      case 2:  // every edge of the type
        return edge(9) | sign;
      case 3:  // the finite ones
        return edge(6) | sign;
      case 4:  // subnormals
        return static_cast<std::uint16_t>(random_() % smallest_normal()) | sign;
      case 5:  // zeros of both signs
        return sign;
      case 6:  // a huge norm
        return times(normal(), is_bf16() ? 5e37f : 1e4f);
      case 7:  // a tiny one
        return times(normal(), is_bf16() ? 1e-38f : 6e-5f);
      case 8:  // above 2^121, whose bits no fp16 spells, next to ordinary elements
        return seldom ? times(1.0f + static_cast<float>(random_() % 4),
                              is_bf16() ? 0x1p121f : 0x1p13f) |
                            sign
                      : times(normal(), 1.0f);
      case 9:  // an infinity among ordinary elements
        return seldom ? infinity() | sign : times(normal(), 1.0f);
      case 10:  // NaN of any payload among them
        return seldom ? static_cast<std::uint16_t>(infinity() + 1 + random_() % 64) | sign
                      : times(normal(), 1.0f);
      default:  // zeros among them: groups that drop only zeros
        return random_() % 2 ? sign : times(normal(), 1.0f);
    }
  }

 private:
  bool is_bf16() const { return dtype_ == DType::bf16; }
  std::uint16_t infinity() const { return is_bf16() ? 0x7f80u : 0x7c00u; }
  std::uint16_t smallest_normal() const { return is_bf16() ? 0x0080u : 0x0400u; }
  float normal() { return normal_(random_); }
  std::uint16_t times(float value, float unit) { return narrow(dtype_, value * unit); }
  std::uint16_t edge(unsigned count) {
    return static_cast<std::uint16_t>(edge_bits(dtype_)[random_() % count]);
  }

  DType dtype_;
  int kind_;
  std::mt19937& random_;
  std::normal_distribution<float> normal_;
};

/// x with rows `stride` elements apart and NaN between them.
Elements with_gaps(const Elements& x, const PackShape& shape) {
  const std::int64_t stride = shape.channels + shape.gap;
  Elements result(static_cast<std::size_t>(shape.tokens * stride), 0xffffu);
  for (std::int64_t m = 0; m < shape.tokens; ++m) {
    std::copy_n(x.begin() + m * shape.channels, shape.channels, result.begin() + m * stride);
  }
  return result;
}

std::size_t count(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

}  // namespace

Elements normal_elements(DType dtype, std::int64_t size, std::uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Elements elements(static_cast<std::size_t>(size));
  for (std::uint16_t& element : elements) element = narrow(dtype, normal(random));
  return elements;
}

Elements hard_rows(DType dtype, std::int64_t rows, std::int64_t columns, int first_kind) {
  std::mt19937 random(static_cast<std::uint32_t>(rows * columns + first_kind));
  Elements elements;
  elements.reserve(count(rows, columns));
  for (std::int64_t m = 0; m < rows; ++m) {
    HardRow row(dtype, static_cast<int>((m + first_kind) % HardRow::kKinds), random);
    for (std::int64_t k = 0; k < columns; ++k) elements.push_back(row.draw());
  }
  return elements;
}

PackWorkspace::PackWorkspace(int rank)
    : buffer_(gpu::pack24_workspace_bytes(rank, gpu::current_device())) {
  if (buffer_.size() == 0) return;
  const std::vector<std::byte> zeros(
      pack::Workspace::arrival_bytes(gpu::current_device().multiprocessors));
  EXPECT_EQ(cudaMemcpy(buffer_.data(), zeros.data(), zeros.size(), cudaMemcpyHostToDevice),
            cudaSuccess);
}

void PackWorkspace::attach(gpu::Pack24& problem) const {
  problem.workspace = buffer_.data();
  problem.workspace_bytes = buffer_.size();
}

void PackWorkspace::expect_clean() const {
  EXPECT_TRUE(buffer_.guards_intact());
  if (buffer_.size() == 0) return;
  std::vector<std::byte> arrivals(
      pack::Workspace::arrival_bytes(gpu::current_device().multiprocessors));
  ASSERT_EQ(cudaMemcpy(arrivals.data(), buffer_.data(), arrivals.size(), cudaMemcpyDeviceToHost),
            cudaSuccess);
  for (const std::byte value : arrivals) ASSERT_EQ(value, std::byte{0}) << "arrivals";
}

PackCase::PackCase(const PackShape& shape, const Elements& x, const Elements& down)
    : shape_(shape),
      x_(on_gpu(with_gaps(x, shape))),
      down_(on_gpu(down)),
      operand_(static_cast<std::size_t>(operand24_bytes(shape.tokens, shape.channels))),
      scale_(count(shape.tokens, sizeof(float))),
      low_(count(shape.tokens, 2 * shape.rank)),
      seen_(count(shape.tokens, 2 * shape.channels)),
      workspace_(shape.rank) {}

gpu::Pack24 PackCase::problem() const {
  gpu::Pack24 problem{
      .x = {x_.data(), shape_.dtype, shape_.tokens, shape_.channels, shape_.channels + shape_.gap},
      .operand = operand_.data(),
      .scale = shape_.scaled ? scale_.floats() : nullptr,
      .down = {},
      .low = nullptr};
  if (shape_.rank > 0) {
    problem.down = contiguous(down_.data(), shape_.dtype, shape_.rank, shape_.channels);
    problem.low = low_.data();
  }
  workspace_.attach(problem);
  problem.selected_from = seen_.data();
  problem.portable = std::getenv("RTLYNX_TEST_PORTABLE_PACK") != nullptr;
  return problem;
}

void PackCase::run(const gpu::Pack24& problem) {
  for (DeviceBuffer* output : {&operand_, &scale_, &low_, &seen_}) output->poison();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const Stream stream;
  gpu::pack24(problem, stream);
  stream.wait();
  workspace_.expect_clean();
}

void PackCase::expect_specified() const {
  const Elements seen = this->seen();
  const std::int64_t tokens = shape_.tokens, channels = shape_.channels;
  Elements values(seen.size() / 2), metadata(seen.size() / 16);
  std::vector<float> scale(static_cast<std::size_t>(tokens));
  const MatrixView kept = contiguous(values.data(), shape_.dtype, tokens, channels / 2);
  pack24(contiguous(seen.data(), shape_.dtype, tokens, channels),
         {.values = kept, .metadata = metadata.data(), .scale = scale.data()});
  std::vector<std::byte> operand(operand_.size());
  to_operand24(kept, metadata.data(), operand.data());

  const std::vector<std::byte> packed = operand_.read();
  const auto [wrong, right] = std::mismatch(packed.begin(), packed.end(), operand.begin());
  EXPECT_TRUE(wrong == packed.end())
      << "operand differs at byte " << wrong - packed.begin() << " of " << packed.size();
  if (shape_.scaled) {
    expect_scale(seen, scale);
  } else {
    std::fill(scale.begin(), scale.end(), 1.0f);
  }
  if (shape_.rank > 0) expect_low(scale);
  expect_guards();
}

/// Where the definition of s says exactly 1, it has to be exactly 1. Elsewhere: the sums of squares
/// are rounded once for 16 channels, by up to 2^-23 of them, and s takes half of that.
void PackCase::expect_scale(const Elements& seen, const std::vector<float>& cpu_scale) const {
  const std::vector<float> scale = this->scale();
  const float allowed = std::max(1e-5f, 0x1p-24f * static_cast<float>(shape_.channels) / 16);
  Elements kept(seen.size());
  sparsify24(contiguous(seen.data(), shape_.dtype, shape_.tokens, shape_.channels),
             contiguous(kept.data(), shape_.dtype, shape_.tokens, shape_.channels), nullptr);
  for (std::int64_t m = 0; m < shape_.tokens; ++m) {
    const auto row = static_cast<std::size_t>(m);
    ASSERT_NEAR(scale[row], cpu_scale[row], allowed * cpu_scale[row]) << "row " << m;
    bool finite = true, only_zeros_dropped = true;
    for (std::int64_t k = m * shape_.channels; k < (m + 1) * shape_.channels; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const float value = widen(shape_.dtype, seen[at]);
      finite = finite && std::isfinite(value);
      only_zeros_dropped = only_zeros_dropped && (value == 0.0f || kept[at] == seen[at]);
    }
    if (!finite || only_zeros_dropped) {
      ASSERT_EQ(scale[row], 1.0f) << "row " << m;
    }
  }
}

/// H = z down^T of what the selection saw, divided by s: the baseline is summed in fp32 and rounded
/// once.
void PackCase::expect_low(const std::vector<float>& cpu_scale) const {
  const gpu::Gemm24 product{.shape = {.tokens = shape_.tokens,
                                      .outputs = shape_.rank,
                                      .channels = shape_.channels,
                                      .rank = 0,
                                      .dtype = shape_.dtype},
                            .weight = down_.data()};
  const std::size_t size = count(shape_.tokens, shape_.rank);
  const DeviceBuffer exact(size * sizeof(double)), baseline(size * sizeof(float));
  multiply(product, seen_.data(), static_cast<double*>(exact.data()));
  multiply(product, seen_.data(), baseline.floats());
  const std::vector<double> exact_h = exact.read<double>();
  const std::vector<float> baseline_h = baseline.read<float>();
  const Elements low = this->low();
  double error_squares = 0.0, baseline_squares = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    const float s = cpu_scale[i / static_cast<std::size_t>(shape_.rank)];
    const double expected = exact_h[i] / s;
    const std::uint16_t rounded = narrow(shape_.dtype, baseline_h[i] / s);
    error_squares += std::pow(widen(shape_.dtype, low[i]) - expected, 2);
    baseline_squares += std::pow(widen(shape_.dtype, rounded) - expected, 2);
  }
  EXPECT_LE(std::sqrt(error_squares), 2.0 * std::sqrt(baseline_squares)) << "H / s";
}

void PackCase::expect_guards() const {
  EXPECT_TRUE(operand_.guards_intact());
  EXPECT_TRUE(scale_.guards_intact());
  EXPECT_TRUE(low_.guards_intact());
  EXPECT_TRUE(seen_.guards_intact());
  const auto poisoned = [](const DeviceBuffer& buffer) {
    const std::vector<std::byte> bytes = buffer.read();
    return std::all_of(bytes.begin(), bytes.end(),
                       [](std::byte byte) { return byte == std::byte{0xa5}; });
  };
  if (!shape_.scaled) {
    EXPECT_TRUE(poisoned(scale_));
  }
}

}  // namespace rtlynx::testing
