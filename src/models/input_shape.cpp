// SPDX-License-Identifier: Apache-2.0
#include "models/input_shape.h"

#include <sstream>

#include "base/error.h"

namespace rtlynx {

void check_shape(const char* op, const char* name, const torch::Tensor& tensor,
                 torch::IntArrayRef wanted) {
  if (tensor.defined() && tensor.sizes() == wanted) return;
  std::ostringstream required, arrived;
  required << name << " " << wanted;
  if (tensor.defined()) {
    arrived << tensor.sizes();
  } else {
    arrived << "none";
  }
  fail(op, required.str(), arrived.str());
}

}  // namespace rtlynx
