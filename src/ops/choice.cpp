// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <limits>
#include <string>
#include <tuple>

#include "kernels/gemm/select.h"
#include "kernels/gemm/time_model.h"

namespace rtlynx::ops {
namespace {

/// Whether a product is faster sparse, the times of both on the GPU that was measured, and why.
std::tuple<bool, double, double, std::string> choose_product(
    std::int64_t tokens, std::int64_t outputs, std::int64_t channels, std::int64_t rank,
    std::int64_t compute_capability, std::int64_t multiprocessors, std::int64_t shared_bytes) {
  const gpu::Gemm24Shape shape{
      .tokens = tokens, .outputs = outputs, .channels = channels, .rank = static_cast<int>(rank)};
  const gpu::DeviceTraits device{.compute_capability = static_cast<int>(compute_capability),
                                 .multiprocessors = static_cast<int>(multiprocessors),
                                 .shared_bytes = static_cast<int>(shared_bytes)};
  const gpu::Gemm24Choice choice = gpu::select_gemm24(shape, device);
  const gpu::LinearTimes times = gpu::linear_times(shape);
  return {choice.config.path != gpu::Gemm24Config::Path::dense, times.dense_us,
          times.sparse_us.value_or(std::numeric_limits<double>::quiet_NaN()), choice.reason};
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CompositeImplicitAutograd, m) {
  m.impl("choose_product", TORCH_BOX(&rtlynx::ops::choose_product));
}
