// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "ops/arguments.h"
#include "ops/dispatch.h"

// What tensors on a GPU meet in a build without GPU kernels.
namespace rtlynx::ops {
namespace {

[[noreturn]] void fail_without_kernels(std::string_view op, const Tensor& arrived) {
  fail(op, "tensors on the CPU, as this build of rtlynx has no CUDA kernels", describe(arrived));
}

Sparsified sparsify24(const Tensor& x, bool) { fail_without_kernels("sparsify24", x); }
Packed pack24(const Tensor& x) { fail_without_kernels("pack24", x); }
Tensor unpack24(const Tensor& values, const Tensor&) { fail_without_kernels("unpack24", values); }
Tensor linear24(const Tensor& x, const Tensor&, const std::optional<Tensor>&,
                const std::optional<Tensor>&, const std::optional<Tensor>&, bool) {
  fail_without_kernels("linear24", x);
}
Tensor linear24_auto(const Tensor& x, const Tensor&, const std::optional<Tensor>&,
                     const std::optional<Tensor>&, const std::optional<Tensor>&, bool) {
  fail_without_kernels("linear24_auto", x);
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CUDA, m) {
  m.impl("sparsify24", TORCH_BOX(&rtlynx::ops::sparsify24));
  m.impl("pack24", TORCH_BOX(&rtlynx::ops::pack24));
  m.impl("unpack24", TORCH_BOX(&rtlynx::ops::unpack24));
  m.impl("linear24", TORCH_BOX(&rtlynx::ops::linear24));
  m.impl("linear24_auto", TORCH_BOX(&rtlynx::ops::linear24_auto));
}
