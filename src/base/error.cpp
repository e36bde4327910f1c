// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <string>

namespace rtlynx {

void fail(std::string_view op, std::string_view required, std::string_view arrived) {
  std::string message(op);
  message.append(": required ").append(required).append(", got ").append(arrived);
  throw Error(message);
}

void require(bool ok, std::string_view op, std::string_view required, std::string_view arrived) {
  if (!ok) fail(op, required, arrived);
}

}  // namespace rtlynx
