// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>

namespace rtlynx::ops {

// Declared in ops.h, which is not for this library: it needs more of torch than the stable ABI.
__attribute__((visibility("default"))) void keep_registered();
void keep_registered() {}

}  // namespace rtlynx::ops

// The operators of this library, once for C++ and Python. All are functional: no argument is
// written to, no result shares memory with an argument. ops.h describes them.
STABLE_TORCH_LIBRARY(rtlynx, m) {
  m.def("sparsify24(Tensor x, bool norm) -> (Tensor kept, Tensor scale)");
  m.def("pack24(Tensor x) -> (Tensor values, Tensor metadata, Tensor scale)");
  m.def("unpack24(Tensor values, Tensor metadata) -> Tensor");
  m.def(
      "linear24(Tensor x, Tensor weight, Tensor? bias, Tensor? lora_down, Tensor? lora_up, "
      "bool norm) -> Tensor");
  m.def(
      "linear24_auto(Tensor x, Tensor weight, Tensor? bias, Tensor? lora_down, Tensor? lora_up, "
      "bool norm) -> Tensor");
}
