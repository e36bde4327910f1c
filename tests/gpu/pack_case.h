// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/gpu_test.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::testing {

/// The bits of 16-bit elements.
using Elements = std::vector<std::uint16_t>;

struct PackShape {
  DType dtype = DType::bf16;
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
  int rank = 0;
  std::int64_t gap = 0;  // elements between the rows of X
  bool scaled = true;
};

/// Independent normal elements.
Elements normal_elements(DType dtype, std::int64_t count, std::uint32_t seed,
                         float deviation = 1.0f);

/// Rows of which each is hard in its own way: ties, NaN and their payloads, infinities, subnormals,
/// zeros, norms near both ends of the type's range. Row 0 is of kind `first_kind`.
Elements hard_rows(DType dtype, std::int64_t rows, std::int64_t columns, int first_kind);

/// The workspace of packs with up to `rank` columns of H, zero as it has to be.
class PackWorkspace {
 public:
  explicit PackWorkspace(int rank);

  void attach(gpu::Pack24& problem) const;
  /// What has to be zero is zero again, and nothing lies outside.
  void expect_clean() const;

 private:
  DeviceBuffer buffer_;
};

/// One problem for gpu::pack24: its inputs, and all that it can write.
class PackCase {
 public:
  /// x [tokens, channels]; on the GPU its rows have NaN in their gaps. `down` [rank, channels].
  PackCase(const PackShape& shape, const Elements& x, const Elements& down = {});

  /// With all outputs that the shape asks for. By the portable kernel if the environment has
  /// RTLYNX_TEST_PORTABLE_PACK.
  gpu::Pack24 problem() const;

  /// Runs it on a stream of its own and waits. The outputs were poisoned before.
  void run(const gpu::Pack24& problem);
  void run() { run(problem()); }

  /// What the selection saw, [tokens, channels].
  Elements seen() const { return seen_.read<std::uint16_t>(); }
  DeviceBuffer& operand() { return operand_; }
  std::vector<float> scale() const { return scale_.read<float>(); }
  Elements low() const { return low_.read<std::uint16_t>(); }

  /// The operand is bitwise what the CPU packs from seen(), scale and low are what follow from it,
  /// and nothing was written beside them.
  void expect_specified() const;

 private:
  void expect_scale(const Elements& seen, const std::vector<float>& cpu_scale) const;
  void expect_low(const std::vector<float>& cpu_scale) const;
  void expect_guards() const;

  PackShape shape_;
  DeviceBuffer x_, down_, operand_, scale_, low_, seen_;
  PackWorkspace workspace_;
};

}  // namespace rtlynx::testing
