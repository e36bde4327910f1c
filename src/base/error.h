// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace rtlynx {

/// An operation that could not be carried out: bad data, an unreadable file, a failed device call.
/// The command line turns it into exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A request that cannot be meant: an unknown option value, an impossible size, an unknown word.
/// The command line turns it into exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error "<op>: required <required>, got <arrived>".
[[noreturn]] void fail(std::string_view op, std::string_view required, std::string_view arrived);

/// Calls fail() unless `ok`. For messages that cost something to build, test first and call fail().
void require(bool ok, std::string_view op, std::string_view required, std::string_view arrived);

}  // namespace rtlynx
