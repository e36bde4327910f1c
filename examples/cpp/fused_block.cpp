// SPDX-License-Identifier: Apache-2.0
// What a transformer block asks of one input: LayerNorm with modulation in the pack, then q, k, v
// and the MLP's up projection with GELU as one product of four weights, then the projection back
// with gate and residual. On the host; gpu_graph.cpp runs the same on a GPU.
#include <rtlynx/error.h>
#include <rtlynx/pack24.h>
#include <rtlynx/product24.h>
#include <rtlynx/rows.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace {

using rtlynx::DType;

constexpr std::int64_t kTokens = 6, kChannels = 64, kHidden = 256;

/// A matrix in fp32 that owns its elements.
struct Matrix {
  Matrix(std::int64_t row_count, std::int64_t column_count)
      : rows(row_count), columns(column_count), data(rows * columns) {}

  rtlynx::MatrixView view() { return rtlynx::contiguous(data.data(), DType::f32, rows, columns); }

  std::int64_t rows, columns;
  std::vector<float> data;
};

Matrix random_matrix(std::int64_t rows, std::int64_t columns, float deviation) {
  static std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, deviation);
  Matrix matrix(rows, columns);
  for (float& value : matrix.data) value = normal(random);
  return matrix;
}

/// What pack24 writes to.
struct Packed {
  Packed(std::int64_t tokens, std::int64_t channels)
      : values(tokens, channels / 2), metadata(tokens * channels / 16), scale(tokens) {}

  rtlynx::Packed24 view() {
    return {.values = values.view(), .metadata = metadata.data(), .scale = scale.data()};
  }

  Matrix values;
  std::vector<std::uint16_t> metadata;
  std::vector<float> scale;
};

/// Rows of x as LayerNorm and modulation leave them.
Matrix dense_input(const Matrix& x, const Matrix& scale, const Matrix& shift) {
  Matrix z(x.rows, x.columns);
  for (std::int64_t m = 0; m < x.rows; ++m) {
    const float* const row = &x.data[m * x.columns];
    float mean = 0.0f, variance = 0.0f;
    for (std::int64_t i = 0; i < x.columns; ++i) mean += row[i] / x.columns;
    for (std::int64_t i = 0; i < x.columns; ++i) {
      variance += (row[i] - mean) * (row[i] - mean) / x.columns;
    }
    for (std::int64_t i = 0; i < x.columns; ++i) {
      const float normed = (row[i] - mean) / std::sqrt(variance + 1e-6f);
      z.data[m * x.columns + i] = normed * (1.0f + scale.data[i]) + shift.data[i];
    }
  }
  return z;
}

/// ||y - x weight^T|| / ||x weight^T||
double error_against_dense(const Matrix& y, const Matrix& x, const Matrix& weight) {
  double error = 0.0, energy = 0.0;
  for (std::int64_t m = 0; m < x.rows; ++m) {
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < x.columns; ++i) {
        sum += double{x.data[m * x.columns + i]} * weight.data[n * x.columns + i];
      }
      error += std::pow(y.data[m * y.columns + n] - sum, 2.0);
      energy += sum * sum;
    }
  }
  return std::sqrt(error / energy);
}

void run() {
  Matrix x = random_matrix(kTokens, kChannels, 1.0f);
  Matrix scale = random_matrix(1, kChannels, 0.1f), shift = random_matrix(1, kChannels, 0.1f);
  Matrix gate = random_matrix(1, kChannels, 0.5f);
  const float spread = 1.0f / std::sqrt(static_cast<float>(kChannels));
  Matrix wq = random_matrix(kChannels, kChannels, spread);
  Matrix wk = random_matrix(kChannels, kChannels, spread);
  Matrix wv = random_matrix(kChannels, kChannels, spread);
  Matrix up = random_matrix(kHidden, kChannels, spread);
  Matrix back = random_matrix(kChannels, kChannels + kHidden, spread / 2);

  // The norm runs where the input is read; its moments come from the row before.
  std::vector<float> moments(2 * kTokens);
  rtlynx::moments({.x = x.view(), .norm = rtlynx::Norm::layer, .moments = moments.data()});
  Packed input(kTokens, kChannels);
  rtlynx::pack24({.x = x.view(),
                  .producer = rtlynx::Producer::norm,
                  .moments = moments.data(),
                  .modulation_scale = scale.view(),
                  .modulation_shift = shift.view()},
                 input.view());

  // v and the MLP's hidden row lie beside each other: the next input, without a copy.
  Matrix q(kTokens, kChannels), k(kTokens, kChannels), joint(kTokens, kChannels + kHidden);
  rtlynx::MatrixView v = joint.view(), hidden = joint.view();
  v.columns = kChannels;
  hidden.data = joint.data.data() + kChannels;
  hidden.columns = kHidden;
  const rtlynx::Product24 readers[] = {
      {.weight = wq.view(), .y = q.view()},
      {.weight = wk.view(), .y = k.view()},
      {.weight = wv.view(), .y = v},
      {.weight = up.view(), .activation = rtlynx::Activation::gelu, .y = hidden}};
  rtlynx::product24(input.view(), readers);

  const double error = error_against_dense(q, dense_input(x, scale, shift), wq);

  // The way back adds to the residual stream in place.
  Packed next(kTokens, kChannels + kHidden);
  rtlynx::pack24({.x = joint.view()}, next.view());
  const rtlynx::Product24 projection{
      .weight = back.view(), .gate = gate.view(), .residual = x.view(), .y = x.view()};
  rtlynx::product24(next.view(), {&projection, 1});
  std::printf("x [%d, %d] begins with %.4f\n", static_cast<int>(x.rows),
              static_cast<int>(x.columns), x.data[0]);
  std::printf("q: error against dense %.4f\n", error);
}

}  // namespace

int main() {
  try {
    run();
  } catch (const rtlynx::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
