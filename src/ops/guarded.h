// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string_view>

#include "rtlynx/error.h"

namespace rtlynx::ops {

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
      const std::string_view text = error.what();
      if (text.find("API call failed at") == std::string_view::npos) throw;
      throw Error("rtlynx operator: torch could not do its part, most often for want of memory");
    }
  }
};

}  // namespace rtlynx::ops
