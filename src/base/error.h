// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "rtlynx/error.h"

namespace rtlynx {

/// A request that cannot be meant: an unknown option value, an impossible size, an unknown word.
/// The command line turns it into exit code 2, any other Error into 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error "<op>: required <required>, got <arrived>".
[[noreturn]] void fail(std::string_view op, std::string_view required, std::string_view arrived);

/// Calls fail() unless `ok`. For messages that cost something to build, test first and call fail().
void require(bool ok, std::string_view op, std::string_view required, std::string_view arrived);

}  // namespace rtlynx
