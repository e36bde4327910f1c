// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include <new>

#include "cli/commands.h"

namespace rtlynx::cli {

std::string message_of(const std::exception& error) {
  if (const auto* from_torch = dynamic_cast<const c10::Error*>(&error)) {
    return from_torch->what_without_backtrace();
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  return error.what();
}

}  // namespace rtlynx::cli
