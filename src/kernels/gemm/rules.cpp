// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/rules.h"

#include <algorithm>

namespace rtlynx::gpu {

void check_rows(std::string_view op, std::string_view name, ConstMatrixView matrix) {
  if (matrix.rows == 0 || matrix.columns == 0) return;
  const int multiple = matrix.dtype == DType::e4m3 ? 16 : 8;
  if (matrix.row_stride % multiple != 0) {
    fail(op, "a row stride of " + std::string(name) + " divisible by " + std::to_string(multiple),
         std::to_string(matrix.row_stride));
  }
  check_pointer(op, name, matrix.data);
}

void check_sizes(std::string_view op, std::int64_t tokens, std::int64_t channels) {
  const std::int64_t largest = std::max(tokens, channels);
  if (tokens < 1 || channels < 1 || largest > kMaxSize) {
    fail(op, "1 to 2^30 tokens and channels",
         std::to_string(tokens) + " and " + std::to_string(channels));
  }
  require(channels % kChannelMultiple == 0, op, "channels K divisible by 16",
          std::to_string(channels));
}

void check_outputs(std::string_view op, std::int64_t outputs) {
  if (outputs < 1 || outputs > kMaxSize || outputs % kOutputMultiple != 0) {
    fail(op, "outputs N of 1 to 2^30, divisible by 8", std::to_string(outputs));
  }
}

void check_workspace(std::string_view op, const Gemm24Config& config, const Workspace& workspace,
                     const DeviceTraits& device) {
  const std::size_t needed = product24_workspace_bytes(config, device);
  if (needed == 0) return;
  check_pointer(op, "workspace", workspace.data);
  if (workspace.bytes < needed) {
    fail(op, "a workspace of " + std::to_string(needed) + " bytes",
         std::to_string(workspace.bytes));
  }
}

}  // namespace rtlynx::gpu
