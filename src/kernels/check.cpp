// SPDX-License-Identifier: Apache-2.0
#include "kernels/check.h"

#include <string>

#include "base/error.h"

namespace rtlynx::gpu {

void check(cudaError_t status, std::string_view op) {
  if (status == cudaSuccess) return;
  fail(op, "a launch that CUDA accepts", cudaGetErrorString(status));
}

void check_pointer(std::string_view op, std::string_view name, const void* pointer, bool optional) {
  if (pointer == nullptr && optional) return;
  const bool aligned = reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  if (pointer != nullptr && aligned) return;
  fail(op, std::string(name) + " in device memory, 16-byte aligned",
       pointer == nullptr ? "null" : "an unaligned address");
}

}  // namespace rtlynx::gpu
