// SPDX-License-Identifier: Apache-2.0
// What gpu::pack24 computes before the selection: against fp64, rounded to the element type.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "gpu/pack_case.h"

namespace rtlynx {
namespace {

using gpu::Producer;
using testing::DeviceBuffer;
using testing::Elements;
using testing::kNarrowTypes;
using testing::normal_elements;
using testing::on_gpu;
using testing::PackCase;
using testing::PackShape;

/// What an element should be, and how far from it fp32 may take it before the rounding.
struct Expected {
  double value;
  double slack;
};

constexpr double kFp32 = 0x1p-24;            // the rounding error of one operation
constexpr double kOperations = 32;           // of those between X and z, sums included
constexpr double kFlushedToZero = 0x1p-119;  // 1 / (1 + e^x) is, for large x

float widen(DType dtype, std::uint16_t bits) {
  return dtype == DType::bf16 ? to_float(BFloat16{bits}) : to_float(Half{bits});
}

std::uint16_t narrow(DType dtype, double value) {
  const auto rounded = static_cast<float>(value);
  return dtype == DType::bf16 ? from_float<BFloat16>(rounded).bits : from_float<Half>(rounded).bits;
}

/// A unit in the last place of a value of this type.
double unit_at(DType dtype, double value) {
  const int bits = dtype == DType::bf16 ? 7 : 10;
  const int least = dtype == DType::bf16 ? -126 : -14;
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, std::max(exponent - 1, least) - bits);
}

double gelu(double x) {
  const double u = 0.7978845608028654 * x * (1.0 + 0.044715 * x * x);
  return x / (1.0 + std::exp(-2.0 * u));
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }

std::vector<float> uniform(std::int64_t count, std::uint32_t seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

/// What a norm takes beside X.
struct Norm {
  Producer producer = Producer::layer_norm;
  std::vector<float> multiplier = {};  // empty: null
  std::vector<float> shift = {};
  std::int64_t image_tokens = 0;
  float eps = 1e-6f;
};

class ProducerGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  double value(std::uint16_t bits) const { return widen(GetParam(), bits); }

  Elements rounded(const std::vector<Expected>& expected) const {
    Elements elements;
    for (const Expected& e : expected) elements.push_back(narrow(GetParam(), e.value));
    return elements;
  }

  void expect_close(const Elements& seen, const std::vector<Expected>& expected,
                    std::int64_t channels) const {
    ASSERT_EQ(seen.size(), expected.size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const auto& [exact, slack] = expected[i];
      const double error = std::fabs(value(seen[i]) - exact);
      if (error <= 2.0 * unit_at(GetParam(), exact) + slack) continue;  // NaN fails too
      FAIL() << "row " << i / static_cast<std::size_t>(channels) << ", channel "
             << i % static_cast<std::size_t>(channels) << ": " << value(seen[i]) << " instead of "
             << exact;
    }
  }

  std::vector<Expected> gelu_of(const Elements& x) const {
    std::vector<Expected> z;
    for (const std::uint16_t bits : x) {
      const double exact = gelu(value(bits));
      z.push_back({exact, kOperations * kFp32 * std::fabs(exact) + kFlushedToZero});
    }
    return z;
  }

  std::vector<Expected> swiglu_of(const Elements& x, const Elements& up) const {
    std::vector<Expected> z;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = silu(value(x[i])) * value(up[i]);
      z.push_back({exact, kOperations * kFp32 * std::fabs(exact) +
                              kFlushedToZero * (1.0 + std::fabs(value(up[i])))});
    }
    return z;
  }

  std::vector<Expected> norm_of(const Norm& norm, const Elements& x, std::int64_t tokens,
                                std::int64_t channels) const {
    std::vector<Expected> z;
    for (std::int64_t m = 0; m < tokens; ++m) {
      const auto at = [&](std::int64_t k) {
        return value(x[static_cast<std::size_t>(m * channels + k)]);
      };
      double mean = 0.0, squares = 0.0;
      if (norm.producer == Producer::layer_norm) {
        for (std::int64_t k = 0; k < channels; ++k) mean += at(k) / static_cast<double>(channels);
      }
      for (std::int64_t k = 0; k < channels; ++k) squares += std::pow(at(k) - mean, 2);
      const double rate = 1.0 / std::sqrt(squares / static_cast<double>(channels) + norm.eps);
      const std::int64_t image = norm.image_tokens > 0 ? m / norm.image_tokens : 0;
      for (std::int64_t k = 0; k < channels; ++k) {
        const auto j = static_cast<std::size_t>(image * channels + k);
        const double multiplier = norm.multiplier.empty() ? 1.0 : norm.multiplier[j];
        const double shift = norm.shift.empty() ? 0.0 : norm.shift[j];
        const double exact = (at(k) - mean) * rate * multiplier + shift;
        // The mean is known to a rounding error of the row's typical magnitude, not of its own.
        const double typical = std::sqrt(squares / static_cast<double>(channels)) + std::fabs(mean);
        const double terms =
            (std::fabs(at(k)) + typical) * rate * std::fabs(multiplier) + std::fabs(shift);
        z.push_back({exact, kOperations * kFp32 * terms});
      }
    }
    return z;
  }

  /// z A; `blocks` [channels, block]. An input that carries slack may be a unit off itself.
  std::vector<Expected> transform_of(const Elements& z, const Elements& blocks,
                                     std::int64_t channels, int block, bool produced) const {
    std::vector<Expected> result;
    for (std::size_t i = 0; i < z.size(); ++i) {
      const std::size_t output = i % static_cast<std::size_t>(channels);
      const std::size_t first = i - output % static_cast<std::size_t>(block);
      Expected sum{0.0, 0.0};
      for (std::size_t k = 0; k < static_cast<std::size_t>(block); ++k) {
        const double x = value(z[first + k]);
        const double weight = value(blocks[output * static_cast<std::size_t>(block) + k]);
        sum.value += x * weight;
        sum.slack += std::fabs(weight) * (kOperations * kFp32 * std::fabs(x) +
                                          (produced ? unit_at(GetParam(), x) : 0.0));
      }
      result.push_back(sum);
    }
    return result;
  }

  /// Blocks of random reflections, 1 - 2 v v^T with |v| = 1: orthogonal but for their rounding.
  Elements reflections(std::int64_t channels, int block) const {
    const std::vector<float> v = uniform(channels, 21, -1.0f, 1.0f);
    Elements blocks;
    for (std::int64_t output = 0; output < channels; ++output) {
      const float* const own = &v[static_cast<std::size_t>(output / block * block)];
      double squares = 0.0;
      for (int k = 0; k < block; ++k) squares += own[k] * own[k];
      for (int k = 0; k < block; ++k) {
        const double one = output % block == k ? 1.0 : 0.0;
        blocks.push_back(narrow(GetParam(), one - 2.0 * own[output % block] * own[k] / squares));
      }
    }
    return blocks;
  }

  Elements down_of(const PackShape& shape) const {
    return normal_elements(GetParam(), shape.rank * shape.channels, 22, 0.05f);
  }

  void expect_norm(const PackShape& shape, const Elements& x, const Norm& norm) const {
    SCOPED_TRACE("rank " + std::to_string(shape.rank) + ", image_tokens " +
                 std::to_string(norm.image_tokens));
    const DeviceBuffer multiplier = on_gpu(norm.multiplier), shift = on_gpu(norm.shift);
    PackCase pack(shape, x, down_of(shape));
    gpu::Pack24 problem = pack.problem();
    problem.producer = norm.producer;
    if (!norm.multiplier.empty()) problem.multiplier = multiplier.data();
    if (!norm.shift.empty()) problem.shift = shift.data();
    problem.image_tokens = norm.image_tokens;
    problem.eps = norm.eps;
    pack.run(problem);
    expect_close(pack.seen(), norm_of(norm, x, shape.tokens, shape.channels), shape.channels);
    pack.expect_specified();
  }
};

TEST_P(ProducerGpuTest, Gelu) {
  for (const int rank : {0, 64}) {
    for (const auto& [tokens, channels] :
         {std::pair<std::int64_t, std::int64_t>{1, 16}, {65, 80}, {130, 3088}}) {
      const PackShape shape{
          .dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank, .gap = 16};
      const Elements x = normal_elements(GetParam(), tokens * channels, 23, 3.0f);
      PackCase pack(shape, x, down_of(shape));
      gpu::Pack24 problem = pack.problem();
      problem.producer = Producer::gelu;
      pack.run(problem);
      expect_close(pack.seen(), gelu_of(x), channels);
      pack.expect_specified();
    }
  }
}

TEST_P(ProducerGpuTest, GeluOfWhatIsNotFinite) {
  const bool bf16 = GetParam() == DType::bf16;
  const std::uint16_t infinity = bf16 ? 0x7f80u : 0x7c00u;
  Elements x = normal_elements(GetParam(), 64, 24);
  x[0] = infinity;
  x[17] = infinity | 0x8000u;
  x[34] = 0xffffu;
  PackCase pack({.dtype = GetParam(), .tokens = 1, .channels = 64}, x);
  gpu::Pack24 problem = pack.problem();
  problem.producer = Producer::gelu;
  pack.run(problem);
  const Elements z = pack.seen();
  EXPECT_EQ(value(z[0]), INFINITY);
  EXPECT_NEAR(value(z[17]), 0.0, 1e-20);
  EXPECT_TRUE(std::isnan(value(z[34])));
  pack.expect_specified();
}

TEST_P(ProducerGpuTest, Swiglu) {
  for (const int rank : {0, 64}) {
    for (const auto& [tokens, channels] :
         {std::pair<std::int64_t, std::int64_t>{1, 16}, {65, 80}, {130, 3088}}) {
      const PackShape shape{
          .dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank};
      const Elements x = normal_elements(GetParam(), tokens * channels, 25, 3.0f);
      const Elements up = normal_elements(GetParam(), tokens * channels, 26);
      const DeviceBuffer gpu_up = on_gpu(up);
      PackCase pack(shape, x, down_of(shape));
      gpu::Pack24 problem = pack.problem();
      problem.producer = Producer::swiglu;
      problem.up = gpu_up.data();
      pack.run(problem);
      expect_close(pack.seen(), swiglu_of(x, up), channels);
      pack.expect_specified();
    }
  }
}

// Gate and up are often the halves of one matrix.
TEST_P(ProducerGpuTest, SwigluOfTheHalvesOfAMatrix) {
  const std::int64_t tokens = 65, channels = 208;
  const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels};
  const Elements x = normal_elements(GetParam(), tokens * channels, 27);
  const Elements up = normal_elements(GetParam(), tokens * channels, 28);
  Elements halves;
  for (std::int64_t m = 0; m < tokens; ++m) {
    halves.insert(halves.end(), x.begin() + m * channels, x.begin() + (m + 1) * channels);
    halves.insert(halves.end(), up.begin() + m * channels, up.begin() + (m + 1) * channels);
  }
  const DeviceBuffer matrix = on_gpu(halves);
  PackCase pack(shape, x);
  gpu::Pack24 problem = pack.problem();
  problem.x = {matrix.data(), GetParam(), tokens, channels, 2 * channels};
  problem.producer = Producer::swiglu;
  problem.up = static_cast<const std::uint16_t*>(matrix.data()) + channels;
  pack.run(problem);
  expect_close(pack.seen(), swiglu_of(x, up), channels);
  pack.expect_specified();
}

TEST_P(ProducerGpuTest, Norms) {
  for (const Producer producer : {Producer::layer_norm, Producer::rms_norm}) {
    for (const auto& [tokens, channels] :
         {std::pair<std::int64_t, std::int64_t>{1, 16}, {65, 80}, {130, 3088}}) {
      const Elements x = normal_elements(GetParam(), tokens * channels, 29);
      for (const int rank : {0, 64}) {
        const PackShape shape{
            .dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank, .gap = 16};
        expect_norm(shape, x, {.producer = producer});
        for (const std::int64_t image_tokens : {0, 50, 1000}) {
          const std::int64_t images = image_tokens == 50 ? (tokens + 49) / 50 : 1;
          Norm norm{.producer = producer,
                    .multiplier = uniform(images * channels, 30, 0.5f, 1.5f),
                    .image_tokens = image_tokens};
          expect_norm(shape, x, norm);
          norm.shift = uniform(images * channels, 31, -1.0f, 1.0f);
          expect_norm(shape, x, norm);
          norm.multiplier.clear();
          expect_norm(shape, x, norm);
        }
      }
    }
  }
}

TEST_P(ProducerGpuTest, EpsMattersToSmallTokens) {
  const PackShape shape{.dtype = GetParam(), .tokens = 65, .channels = 1024};
  const Elements small = normal_elements(GetParam(), 65 * 1024, 32, 1e-3f);
  for (const Producer producer : {Producer::layer_norm, Producer::rms_norm}) {
    for (const float eps : {0.0f, 1e-6f, 1e-2f}) {
      expect_norm(shape, small, {.producer = producer, .eps = eps});
    }
  }
  const Elements zeros(65 * 1024);
  expect_norm(shape, zeros, {.producer = Producer::layer_norm});
}

TEST_P(ProducerGpuTest, LayerNormOfTokensFarFromZero) {
  const std::int64_t tokens = 65, channels = 3072;
  Elements x = normal_elements(GetParam(), tokens * channels, 33);
  for (std::uint16_t& element : x) element = narrow(GetParam(), value(element) + 200.0);
  expect_norm({.dtype = GetParam(), .tokens = tokens, .channels = channels}, x,
              {.producer = Producer::layer_norm});
}

TEST_P(ProducerGpuTest, Transforms) {
  for (const auto& [block, channels] :
       {std::pair<int, std::int64_t>{16, 48}, {16, 208}, {64, 320}, {128, 128}, {128, 3072}}) {
    for (const int rank : {0, 64, 128}) {
      SCOPED_TRACE("block " + std::to_string(block) + ", K " + std::to_string(channels) +
                   ", rank " + std::to_string(rank));
      const std::int64_t tokens = 70;
      const PackShape shape{
          .dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank, .gap = 16};
      const Elements x = normal_elements(GetParam(), tokens * channels, 34);
      const Elements blocks = reflections(channels, block);
      const DeviceBuffer gpu_blocks = on_gpu(blocks);
      PackCase pack(shape, x, down_of(shape));
      gpu::Pack24 problem = pack.problem();
      problem.transform = gpu_blocks.data();
      problem.transform_block = block;
      pack.run(problem);
      expect_close(pack.seen(), transform_of(x, blocks, channels, block, false), channels);
      pack.expect_specified();
    }
  }
}

TEST_P(ProducerGpuTest, TransformsOfWhatIsProduced) {
  const std::int64_t tokens = 70, channels = 1152;
  const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = 64};
  const Elements x = normal_elements(GetParam(), tokens * channels, 35);
  const Elements up = normal_elements(GetParam(), tokens * channels, 36);
  const DeviceBuffer gpu_up = on_gpu(up);
  const Norm layer_norm{.producer = Producer::layer_norm};
  const Norm rms_norm{.producer = Producer::rms_norm};
  const std::pair<Producer, std::vector<Expected>> cases[] = {
      {Producer::gelu, gelu_of(x)},
      {Producer::swiglu, swiglu_of(x, up)},
      {Producer::layer_norm, norm_of(layer_norm, x, tokens, channels)},
      {Producer::rms_norm, norm_of(rms_norm, x, tokens, channels)}};
  for (const int block : {16, 64, 128}) {
    const Elements blocks = reflections(channels, block);
    const DeviceBuffer gpu_blocks = on_gpu(blocks);
    for (const auto& [producer, z] : cases) {
      SCOPED_TRACE("block " + std::to_string(block) + ", producer " +
                   std::to_string(static_cast<int>(producer)));
      PackCase pack(shape, x, down_of(shape));
      gpu::Pack24 problem = pack.problem();
      problem.producer = producer;
      problem.up = gpu_up.data();
      problem.transform = gpu_blocks.data();
      problem.transform_block = block;
      pack.run(problem);
      expect_close(pack.seen(), transform_of(rounded(z), blocks, channels, block, true), channels);
      pack.expect_specified();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ProducerGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
