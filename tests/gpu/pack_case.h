// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gpu/host_input.h"
#include "gpu/matrix.h"
#include "gpu/workspace.h"
#include "kernels/pack/pack24.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx::testing {

/// The pack kernels, and what to call them.
struct NamedKernel {
  pack::Kernel kernel;
  const char* name;
};
inline constexpr NamedKernel kPackKernels[] = {{pack::Kernel::fastest, "fastest"},
                                               {pack::Kernel::portable, "portable"}};

/// "bf16 [64, 3072], 16 of them in the tail, producer 2, transform 64, rank 64"
std::string describe(const HostInput& input);

/// One input on the GPU, and all that gpu::pack24 can write of it.
class PackCase {
 public:
  /// `gap` elements lie between the rows of every matrix.
  explicit PackCase(HostInput input, std::int64_t gap = 0);

  /// On the GPU.
  Pack24 problem() const;
  gpu::PackedInput packed() const;

  /// Runs a problem on a stream of its own and waits. What it writes was poisoned before.
  void run(pack::Kernel kernel, const Pack24& problem);
  void run(pack::Kernel kernel) { run(kernel, problem()); }
  /// By gpu::pack24 itself, which does not write z.
  void run();

  /// z is close to the specification's, or the same where nothing produces it; operand, scale and
  /// low are the specification's of that z, to the bit or as far as sums are open; and nothing was
  /// written beside them.
  void expect_specified();

  /// The same of every kernel.
  void expect_specified_by_all();

  Matrix z() const { return z_.read(); }
  std::vector<std::byte> operand() const { return operand_.read(); }
  std::vector<float> scale() const { return scale_.read<float>(); }
  Matrix low() const { return low_.read(); }

 private:
  template <typename Launch>
  void launch(Launch launch);
  void expect_input(const Matrix& z);
  void expect_operand(const Matrix& z, std::vector<float>& scale) const;
  void expect_scale(const Matrix& z, const std::vector<float>& expected) const;
  void expect_low(const Matrix& input, const std::vector<float>& scale) const;
  void expect_guards() const;

  HostInput input_;
  std::optional<ExpectedInput> expected_;
  DeviceMatrix x_, tail_, up_, modulation_scale_, modulation_shift_, down_;
  DeviceBuffer moments_, weight_, transform_;
  DeviceBuffer operand_, scale_;
  DeviceMatrix low_, z_;
  TestWorkspace workspace_;
};

}  // namespace rtlynx::testing
