// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace rtlynx {

/// An operation that could not be carried out: bad data, an unreadable file, a failed device call.
/// Every function of this library throws it, with a message that says which operation, what was
/// required and what arrived.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace rtlynx
