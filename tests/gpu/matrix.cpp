// SPDX-License-Identifier: Apache-2.0
#include "gpu/matrix.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "base/half.h"
#include "gpu/parallel.h"
#include "ops/samples.h"

namespace rtlynx::testing {
namespace {

constexpr std::uint16_t kSign = 0x8000u;

std::size_t count(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

/// A well mixed hash (splitmix64): elements do not depend on each other's order.
std::uint64_t mix(std::uint64_t index, std::uint32_t seed) {
  std::uint64_t z = index * 0x9e3779b97f4a7c15u + (std::uint64_t{seed} << 32 | seed);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/// In (0, 1).
float unit_interval(std::uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f;
}

/// Two of them from one hash (Box and Muller), of which this is one.
float normal_of(std::uint64_t hash) {
  const float radius = std::sqrt(-2.0f * std::log(unit_interval(static_cast<std::uint32_t>(hash))));
  const float turn = unit_interval(static_cast<std::uint32_t>(hash >> 32));
  return radius * std::cos(2.0f * std::numbers::pi_v<float> * turn);
}

/// draw(hash) of each element.
template <typename Draw>
Matrix drawn(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed, Draw draw) {
  Matrix matrix = zeros(dtype, rows, columns);
  in_parallel(rows, [&](std::int64_t row) {
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::size_t at = matrix.index(row, k);
      matrix.elements[at] = narrow(dtype, draw(mix(at, seed)));
    }
  });
  return matrix;
}

/// Draws the elements of a hard row.
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
  std::uint16_t edge(unsigned kinds) {
    return static_cast<std::uint16_t>(edge_bits(dtype_)[random_() % kinds]);
  }

  DType dtype_;
  int kind_;
  std::mt19937& random_;
  std::normal_distribution<float> normal_;
};

}  // namespace

float widen(DType dtype, std::uint16_t bits) {
  return dtype == DType::bf16 ? to_float(BFloat16{bits}) : to_float(Half{bits});
}

std::uint16_t narrow(DType dtype, float value) {
  return dtype == DType::bf16 ? from_float<BFloat16>(value).bits : from_float<Half>(value).bits;
}

double unit_at(DType dtype, double value) {
  const int bits = dtype == DType::bf16 ? 7 : 10;
  const int least = dtype == DType::bf16 ? -126 : -14;
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, std::max(exponent - 1, least) - bits);
}

Matrix zeros(DType dtype, std::int64_t rows, std::int64_t columns) {
  return {
      .dtype = dtype, .rows = rows, .columns = columns, .elements = Elements(count(rows, columns))};
}

Matrix normal_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                     float deviation) {
  return drawn(dtype, rows, columns, seed,
               [deviation](std::uint64_t hash) { return deviation * normal_of(hash); });
}

Matrix integer_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                      int largest) {
  return drawn(dtype, rows, columns, seed, [largest](std::uint64_t hash) {
    const auto kinds = static_cast<std::uint64_t>(2 * largest + 1);
    return static_cast<float>(static_cast<int>((hash >> 33) % kinds) - largest);
  });
}

Matrix hard_rows(DType dtype, std::int64_t rows, std::int64_t columns, int first_kind) {
  std::mt19937 random(static_cast<std::uint32_t>(rows * columns + first_kind));
  Matrix matrix{.dtype = dtype, .rows = rows, .columns = columns};
  matrix.elements.reserve(count(rows, columns));
  for (std::int64_t m = 0; m < rows; ++m) {
    HardRow row(dtype, static_cast<int>((m + first_kind) % HardRow::kKinds), random);
    for (std::int64_t k = 0; k < columns; ++k) matrix.elements.push_back(row.draw());
  }
  return matrix;
}

std::vector<float> uniform(std::int64_t size, std::uint32_t seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(static_cast<std::size_t>(size));
  for (float& value : values) value = distribution(random);
  return values;
}

std::vector<float> widened(const Matrix& matrix) {
  std::vector<float> values(matrix.elements.size());
  std::transform(matrix.elements.begin(), matrix.elements.end(), values.begin(),
                 [&](std::uint16_t bits) { return widen(matrix.dtype, bits); });
  return values;
}

std::vector<float> magnitudes(const Matrix& matrix) {
  std::vector<float> values = widened(matrix);
  for (float& value : values) value = std::fabs(value);
  return values;
}

DeviceMatrix::DeviceMatrix(DType dtype, std::int64_t rows, std::int64_t columns, Layout layout)
    : dtype_(dtype),
      rows_(rows),
      columns_(columns),
      gap_(layout.gap),
      buffer_(2 * count(rows, columns + layout.gap), nullptr, {.guard_after = layout.guard_after}) {
  buffer_.fill(DeviceBuffer::kGuard);
  poison();
}

DeviceMatrix::DeviceMatrix(const Matrix& content, Layout layout)
    : DeviceMatrix(content.dtype, content.rows, content.columns, layout) {
  write(content);
}

MatrixView DeviceMatrix::view() const {
  return {buffer_.data(), dtype_, rows_, columns_, columns_ + gap_};
}

void DeviceMatrix::write(const Matrix& content) {
  ASSERT_TRUE(content.rows == rows_ && content.columns == columns_);
  if (content.elements.empty()) return;
  ASSERT_EQ(cudaMemcpy2D(buffer_.data(), stride_bytes(), content.elements.data(), row_bytes(),
                         row_bytes(), static_cast<std::size_t>(rows_), cudaMemcpyHostToDevice),
            cudaSuccess);
}

void DeviceMatrix::poison() {
  if (rows_ * columns_ == 0) return;
  ASSERT_EQ(cudaMemset2D(buffer_.data(), stride_bytes(), DeviceBuffer::kPoison, row_bytes(),
                         static_cast<std::size_t>(rows_)),
            cudaSuccess);
}

Matrix DeviceMatrix::read() const {
  Matrix content = zeros(dtype_, rows_, columns_);
  if (content.elements.empty()) return content;
  EXPECT_EQ(cudaMemcpy2D(content.elements.data(), row_bytes(), buffer_.data(), stride_bytes(),
                         row_bytes(), static_cast<std::size_t>(rows_), cudaMemcpyDeviceToHost),
            cudaSuccess);
  return content;
}

bool DeviceMatrix::guards_intact() const {
  if (!buffer_.guards_intact()) return false;
  if (gap_ == 0) return true;
  const std::vector<std::uint8_t> bytes = buffer_.read<std::uint8_t>();
  for (std::size_t at = 0; at < bytes.size(); at += stride_bytes()) {
    const auto row = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const auto length = static_cast<std::ptrdiff_t>(row_bytes());
    const auto end = row + static_cast<std::ptrdiff_t>(stride_bytes());
    if (!std::all_of(row + length, end, [](auto byte) { return byte == DeviceBuffer::kGuard; })) {
      return false;
    }
  }
  return true;
}

}  // namespace rtlynx::testing
