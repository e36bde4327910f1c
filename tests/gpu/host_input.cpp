// SPDX-License-Identifier: Apache-2.0
#include "gpu/host_input.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gpu/parallel.h"
#include "kernels/spec/arguments.h"
#include "rtlynx/rows.h"

namespace rtlynx::testing {
namespace {

constexpr float kFp32 = 0x1p-24f;            // the rounding error of one operation
constexpr float kOperations = 32;            // of those between X and z, sums included
constexpr float kVanishingGelu = 0x1p-119f;  // 1 / (1 + exp) flushed to zero
constexpr float kVanishingSilu = 1.2e-26f;   // below -64 the kernels take -64

ConstMatrixView fp32(const std::vector<float>& values, std::int64_t rows) {
  const auto columns = rows == 0 ? 0 : static_cast<std::int64_t>(values.size()) / rows;
  return contiguous(static_cast<const void*>(values.data()), DType::f32, rows, columns);
}

/// Token m of an input by itself.
Pack24 token_of(const Pack24& input, std::int64_t m) {
  Pack24 token = input;
  const auto row = [m](ConstMatrixView matrix) {
    return matrix.rows > 0 ? slice_rows(matrix, m, 1) : matrix;
  };
  const auto row_of_image = [&](ConstMatrixView matrix) {
    return matrix.rows > 0 ? slice_rows(matrix, image_of(m, input.image_tokens), 1) : matrix;
  };
  token.x = row(input.x);
  token.tail = row(input.tail);
  token.up = row(input.up);
  if (input.moments != nullptr) token.moments = input.moments + 2 * m;
  token.modulation_scale = row_of_image(input.modulation_scale);
  token.modulation_shift = row_of_image(input.modulation_shift);
  token.image_tokens = 0;
  return token;
}

/// produce24 on all cores.
void produce(const Pack24& input, MatrixView z) {
  in_parallel(input.x.rows,
              [&](std::int64_t m) { produce24(token_of(input, m), slice_rows(z, m, 1)); });
}

/// (|x| + |mean|) * rate * |weight| * (1 + |scale|) + |shift|: what fp32 rounds, for a norm.
std::vector<float> terms_of_norm(const HostInput& input) {
  const std::vector<float> x = magnitudes(input.x);
  const std::vector<float> scale = magnitudes(input.modulation_scale);
  const std::vector<float> shift = magnitudes(input.modulation_shift);
  const Matrix weight{
      .dtype = input.x.dtype, .rows = 1, .columns = input.channels(), .elements = input.weight};
  const std::vector<float> weights = magnitudes(weight);
  std::vector<float> moments = input.moments;
  for (std::size_t i = 0; i < moments.size(); i += 2) moments[i] = -std::fabs(moments[i]);

  Pack24 absolute{.x = fp32(x, input.tokens()), .producer = Producer::norm};
  absolute.moments = moments.data();
  absolute.weight = weights.empty() ? nullptr : weights.data();
  absolute.modulation_scale = fp32(scale, input.modulation_scale.rows);
  absolute.modulation_shift = fp32(shift, input.modulation_shift.rows);
  absolute.image_tokens = input.image_tokens;
  std::vector<float> terms(x.size());
  produce(absolute, contiguous(static_cast<void*>(terms.data()), DType::f32, input.tokens(),
                               input.channels()));
  return terms;
}

/// How far fp32 may take z from what it should be before it is rounded, behind the producer.
std::vector<float> slack_of_producer(const HostInput& input, const Matrix& z) {
  std::vector<float> slack =
      input.producer == Producer::norm ? terms_of_norm(input) : magnitudes(z);
  for (float& value : slack) value *= kOperations * kFp32;
  for (std::size_t i = 0; i < slack.size(); ++i) {
    if (input.producer == Producer::gelu) slack[i] += kVanishingGelu;
    if (input.producer == Producer::swiglu) {
      slack[i] += kVanishingSilu * std::fabs(widen(input.up.dtype, input.up.elements[i]));
    }
  }
  return slack;
}

/// Behind the transform: its inputs may be off by that and a unit in the last place, and are
/// summed in fp32. `z`: before the transform.
std::vector<float> slack_of_transform(const HostInput& input, const Matrix& z) {
  std::vector<float> inputs = magnitudes(z);
  for (float& value : inputs) value *= kOperations * kFp32;
  if (input.producer != Producer::none) {
    const std::vector<float> slack = slack_of_producer(input, z);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] += slack[i] + static_cast<float>(unit_at(z.dtype, widen(z.dtype, z.elements[i])));
    }
  }
  const Matrix blocks{.dtype = z.dtype,
                      .rows = z.columns,
                      .columns = input.transform_block,
                      .elements = input.transform};
  const std::vector<float> weights = magnitudes(blocks);
  Pack24 absolute{.x = fp32(inputs, z.rows)};
  absolute.transform = weights.data();
  absolute.transform_block = input.transform_block;
  std::vector<float> slack(inputs.size());
  produce(absolute, contiguous(static_cast<void*>(slack.data()), DType::f32, z.rows, z.columns));
  return slack;
}

}  // namespace

Pack24 HostInput::view() const {
  return {.x = x.view(),
          .tail = tail.view(),
          .producer = producer,
          .up = up.view(),
          .moments = moments.empty() ? nullptr : moments.data(),
          .weight = weight.empty() ? nullptr : weight.data(),
          .modulation_scale = modulation_scale.view(),
          .modulation_shift = modulation_shift.view(),
          .image_tokens = image_tokens,
          .transform = transform.empty() ? nullptr : transform.data(),
          .transform_block = transform_block,
          .restores_norm = restores_norm,
          .down = down.view()};
}

HostInput random_input(DType dtype, Producer producer, std::int64_t tokens, std::int64_t channels,
                       std::int64_t low_columns) {
  const float deviation = producer == Producer::norm ? 1.0f : 3.0f;
  HostInput input{.x = normal_matrix(dtype, tokens, channels, 101, deviation),
                  .producer = producer,
                  .down = normal_matrix(dtype, low_columns, channels, 102, 0.05f)};
  if (producer == Producer::swiglu) input.up = normal_matrix(dtype, tokens, channels, 103);
  if (producer == Producer::norm) {
    input.moments.resize(static_cast<std::size_t>(2 * tokens));
    moments({.x = input.x.view(), .moments = input.moments.data()});
    input.weight = normal_matrix(dtype, 1, channels, 104).elements;
    input.modulation_scale = normal_matrix(dtype, 1, channels, 105, 0.3f);
    input.modulation_shift = normal_matrix(dtype, 1, channels, 106);
  }
  return input;
}

void add_transform(HostInput& input, int block) {
  const std::int64_t channels = input.channels();
  const std::vector<float> v = uniform(channels, 107, -1.0f, 1.0f);
  input.transform.clear();
  input.transform_block = block;
  for (std::int64_t output = 0; output < channels; ++output) {
    const float* const own = &v[static_cast<std::size_t>(output / block * block)];
    double squares = 0.0;
    for (int k = 0; k < block; ++k) squares += double{own[k]} * own[k];
    for (int k = 0; k < block; ++k) {
      const double one = output % block == k ? 1.0 : 0.0;
      const double reflected = one - 2.0 * own[output % block] * own[k] / squares;
      input.transform.push_back(narrow(input.x.dtype, static_cast<float>(reflected)));
    }
  }
}

Matrix produced_input(const HostInput& input) {
  HostInput before = input;
  before.transform.clear();
  Matrix produced = zeros(input.x.dtype, input.tokens(), input.channels());
  produce(before.view(), produced.view());
  return produced;
}

std::vector<float> low_of(const Matrix& input, const Matrix& down, const std::vector<float>& unit) {
  const std::vector<float> tokens = widened(input), downs = widened(down);
  const auto channels = static_cast<std::size_t>(input.columns);
  const auto columns = static_cast<std::size_t>(down.rows);
  std::vector<float> low(static_cast<std::size_t>(input.rows) * columns);
  in_parallel(input.rows, [&](std::int64_t m) {
    const auto row = static_cast<std::size_t>(m);
    const float* const token = &tokens[row * channels];
    for (std::size_t r = 0; r < columns; ++r) {
      const float sum = std::inner_product(token, token + channels, &downs[r * channels], 0.0f);
      low[row * columns + r] = sum / unit[row];
    }
  });
  return low;
}

ExpectedInput expected_input(const HostInput& input) {
  Matrix produced = produced_input(input);
  if (input.transform.empty()) {
    if (input.producer == Producer::none) return {std::move(produced), {}};
    std::vector<float> slack = slack_of_producer(input, produced);
    return {std::move(produced), std::move(slack)};
  }
  Matrix z = zeros(input.x.dtype, input.tokens(), input.channels());
  produce(input.view(), z.view());
  return {std::move(z), slack_of_transform(input, produced)};
}

}  // namespace rtlynx::testing
