// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <exception>
#include <string_view>
#include <vector>

#include "rtlynx/error.h"

/// What the stable ABI lacks and the operators need of torch.
namespace rtlynx::ops {

/// Within it torch records no gradients: the operators call torch on their arguments, which may
/// require them.
class NoGrad {
 public:
  NoGrad() { aoti_torch_grad_mode_set_enabled(false); }
  ~NoGrad() { aoti_torch_grad_mode_set_enabled(before_); }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_ = aoti_torch_grad_mode_is_enabled();
};

/// Calls an aten operator that returns one tensor.
template <typename... Arguments>
torch::stable::Tensor call_aten(const char* name, const char* overload,
                                const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(arguments)> stack{torch::stable::detail::from(arguments)...};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<torch::stable::Tensor>(stack[0]);
}

/// An operator whose failures in torch are said in words: the stable ABI passes on a line of
/// torch's own header, and keeps the reason, which is nearly always want of memory.
template <auto op, typename Signature = decltype(op)>
struct Guarded;
template <auto op, typename Result, typename... Arguments>
struct Guarded<op, Result (*)(Arguments...)> {
  static Result call(Arguments... arguments) {
    try {
      return op(arguments...);
    } catch (const std::exception& error) {
      if (std::string_view(error.what()).find("API call failed at") == std::string_view::npos)
        throw;
      throw Error("rtlynx operator: torch could not do its part, most often for want of memory");
    }
  }
};

}  // namespace rtlynx::ops
