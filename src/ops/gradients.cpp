// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/ops.h"

namespace rtlynx::ops {

void keep_registered() { keep_operators(); }

}  // namespace rtlynx::ops

// Nothing here has a derivative. A result that a loss depends on says so when it is asked for one,
// rather than passing no gradient on. python/rtlynx/_ops.py does the same for Python.
TORCH_LIBRARY_IMPL(rtlynx, Autograd, m) {
  for (const char* op :
       {"sparsify24", "pack", "product", "product_out", "pack_weight", "weight_product",
        "weight_product_out", "linear24", "residual_norm", "head_norm", "swiglu"}) {
    m.impl(op, torch::autograd::autogradNotImplementedFallback());
  }
}
