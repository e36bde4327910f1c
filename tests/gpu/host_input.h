// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/matrix.h"
#include "rtlynx/pack24.h"

namespace rtlynx::testing {

/// Pack24 on the host, with what it points at.
struct HostInput {
  Matrix x;
  Matrix tail = {};
  Producer producer = Producer::none;
  Matrix up = {};
  std::vector<float> moments = {};
  Elements weight = {};
  Matrix modulation_scale = {};
  Matrix modulation_shift = {};
  std::int64_t image_tokens = 0;
  Elements transform = {};
  int transform_block = 0;
  bool restores_norm = true;
  Matrix down = {};

  std::int64_t tokens() const { return x.rows; }
  std::int64_t channels() const { return x.columns + tail.columns; }
  Pack24 view() const;
};

/// Normal elements, with all that the producer takes; a norm's moments are those of x.
HostInput random_input(DType dtype, Producer producer, std::int64_t tokens, std::int64_t channels,
                       std::int64_t low_columns = 0);

/// Blocks of random reflections, 1 - 2 v v^T with |v| = 1: orthogonal but for their rounding.
void add_transform(HostInput& input, int block);

/// z by the specification, and how far from it a kernel may round z: 2 units in the last place
/// besides. No slack: z is exact.
struct ExpectedInput {
  Matrix z;
  std::vector<float> slack;  // [M, K]; empty: none
};
ExpectedInput expected_input(const HostInput& input);

/// The specification's input behind its producer and before a transform, which low ranks read.
Matrix produced_input(const HostInput& input);

/// (input down^T) / unit of each token, [M, R] in fp32.
std::vector<float> low_of(const Matrix& input, const Matrix& down, const std::vector<float>& unit);

}  // namespace rtlynx::testing
