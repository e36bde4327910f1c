// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/reference.h"
#include "rtlynx/gpu/gemm24.h"

namespace rtlynx::testing {

/// Every configuration of gpu::gemm24 that the current device runs.
std::vector<gpu::Gemm24Config> all_configs();

/// Those that cut tiles along K.
std::vector<gpu::Gemm24Config> stream_k_configs();

/// "bf16 M 64, N 3072, K 3072, rank 64"
std::string describe(const gpu::Gemm24Shape& shape);

/// The workspace of one configuration, zero as it has to be.
class Workspace {
 public:
  explicit Workspace(const gpu::Gemm24Config& config);

  void attach(gpu::Gemm24& problem) const;
  /// Every flag is zero again, and nothing lies outside.
  void expect_clean() const;

 private:
  DeviceBuffer buffer_;
};

/// What the elements of a GemmCase are.
enum class Values : std::uint8_t { normal, integers };

struct GemmShape {
  std::int64_t tokens = 0;
  std::int64_t outputs = 0;
  std::int64_t channels = 0;
  int rank = 0;
  std::vector<std::int64_t> segment_ends = {};  // empty: one segment
};

/// One problem for gpu::gemm24: its operands, everything that its epilogue can ask for, and the
/// sums in both precisions. Integers and their sums are exact in fp32.
class GemmCase {
 public:
  GemmCase(const GemmShape& shape, DType dtype, Values values = Values::normal);

  /// Without scale, bias, activation, gate and residual.
  gpu::Gemm24 problem() const { return problem_; }

  /// Rows of gate: one for each image_tokens(), the last image is shorter.
  std::int64_t image_tokens() const { return image_tokens_; }
  const float* scale() const { return scale_.floats(); }
  const float* bias() const { return bias_.floats(); }
  const void* gate() const { return gate_.data(); }
  const void* residual() const { return residual_.data(); }

  /// Runs it into poisoned memory, or into a copy of the residual if that is Y itself, on a stream
  /// of its own, and waits.
  void run(const gpu::Gemm24& problem, const gpu::Gemm24Config& config);

  /// At most twice the error of the baseline, in the Frobenius norm and in the largest element.
  void expect_close(const gpu::Gemm24& problem) const;
  /// The bits of the baseline.
  void expect_exact(const gpu::Gemm24& problem) const;

  std::vector<std::uint16_t> y() const { return y_.read<std::uint16_t>(); }
  std::vector<std::uint16_t> kept() const { return kept_.read<std::uint16_t>(); }
  DeviceBuffer& operand() { return operand_; }
  DeviceBuffer& weight() { return weight_; }
  DeviceBuffer& up() { return up_; }

 private:
  void pack(Values values);
  Errors errors(const gpu::Gemm24& problem) const;

  gpu::Gemm24 problem_;
  std::int64_t image_tokens_;
  DeviceBuffer operand_, kept_, weight_, low_, up_;
  DeviceBuffer scale_, bias_, gate_, residual_, y_;
  DeviceBuffer exact_sums_, baseline_sums_;
};

}  // namespace rtlynx::testing
